"""The part of Go's templates that we know, and that nothing else passes in silence."""

from typing import Any

import pytest

from client.cli.template import Open, Template, TemplateFailed

DATA: dict[str, Any] = {
    "Id": "sha256:12",
    "Size": 42,
    "Nothing": None,
    "Tags": ["b", "a"],
    "Empty": [],
    "Labels": Open({"version": "1", "a.b": "<&>"}),
    "Config": {"Cmd": ["run", "it"], "Rate": 0.5, "On": True},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain }} text", "plain }} text"),
        ("{{.Id}}", "sha256:12"),
        ("{{ .Config.Cmd }} {{.Config}}", "[run it] {[run it] 0.5 true}"),
        ("{{.Nothing}} {{.Labels.none}}", "<no value> <no value>"),
        ("{{json .}}", '{"Id":"sha256:12","Size":42,"Nothing":null,"Tags":["b","a"],"Empty":[],'
         '"Labels":{"a.b":"<&>","version":"1"},"Config":{"Cmd":["run","it"],"Rate":0.5,"On":true}}'),
        ("{{jsonPretty .Tags}}", '[\n  "b",\n  "a"\n]'),
        ('{{json "\u009b31m\u202e"}}', '"\\u009b31m\\u202e"'),
        ('{{index .Labels "a.b"}}{{index .Labels "none"}}', "<&>"),
        ("{{index .Config.Cmd 1}}", "it"),
        ('{{index . "Config" "Cmd" 0}}', "run"),
        ("{{range .Tags}}{{.}};{{end}}", "b;a;"),
        ("{{range $i, $tag := .Tags}}{{$i}}{{$tag}}{{$.Size}} {{end}}", "0b42 1a42 "),
        ("{{range $tag := .Tags}}{{$tag}}{{end}}", "ba"),
        ("{{range .Empty}}x{{else}}none{{end}}{{range .Nothing}}x{{end}}", "none"),
        ("{{if .Empty}}a{{else if .Nothing}}b{{else}}c{{end}}", "c"),
        ("{{if .Size}}a{{else if .Tags}}b{{end}}!", "a!"),
        ("{{if .Empty}}a{{else if .Tags}}b{{else}}c{{end}}!", "b!"),
        ("{{with .Config}}{{.Rate}}{{end}}{{with .Empty}}x{{else}}y{{end}}", "0.5y"),
        ("{{with $c := .Config}}{{$c.On}}{{end}}", "true"),
        ("{{$x := .Size}}{{with .Config}}{{$x = 7}}{{end}}{{$x}}", "7"),
        ('{{.Config.Cmd | join " " | upper}}', None),
        ('{{join .Config.Cmd " " | upper}}', "RUN IT"),
        ('{{lower "AB"}}{{trimSpace "  c "}}{{len (split "a:b:c" ":")}}', "abc3"),
        ('{{(index .Tags 0) | printf "%3s|%-3s|" "x"}}', "  x|b  |"),
        ('{{printf "%d %05d %x %.1f %v %q %t %%" 1 42 255 0.25 .Tags "a\\"b" true}}',
         '1 00042 ff 0.2 [b a] "a\\"b" true %'),
        ('{{println "a" 1}}', "a 1\n"),
        ("{{eq .Size 42}} {{eq .Id \"x\" \"sha256:12\"}} {{ne 1 2}} {{not .Empty}}", "true true true true"),
        ('{{and .Size .Empty}} {{or .Empty "d"}} {{and 1 2}}', "[] d 2"),
        ("{{and .Nothing .Nothing.x}}", "<no value>"),
        ("a {{- 1 -}} b {{- /* gone */ -}} c", "a1bc"),
        ("{{`}} raw \\n`}}", "}} raw \\n"),
        ('{{len "ü"}}{{len .Labels}}', "22"),
        ("{{true}} {{-1}} {{1.5}} {{2.0}}", "true -1 1.5 2"),
    ],
    ids=str,
)  # fmt: skip
def test_renders(template: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(TemplateFailed):
            Template.parse(template).render(DATA)
    else:
        assert Template.parse(template).render(DATA) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Unknown}}", "no field 'Unknown'; there are Id, Size"),
        ("{{.Id.More}}", "no field 'More' of 'sha256:12'"),
        ("{{.Nothing.More}}", "no field 'More' of nothing"),
        ("{{index .Tags 2}}", "out of range"),
        ("{{index .Tags -1}}", "out of range"),
        ('{{index .Config "none"}}', "no 'none' there"),
        ("{{$x}}", "no variable [$]x"),
        ("{{call .Id}}", "no function 'call'"),
        ('{{template "x"}}', "no function 'template'"),
        ("{{block}}", "no function 'block'"),
        ("{{range .Tags}}{{break}}{{end}}", "no function 'break'"),
        ("{{.Id | .Size}}", "what follows a | is a function"),
        ("{{.Id .Size}}", "'.Size' is not expected"),
        ("{{if .Id}}", "has no end"),
        ("{{if .Id}}{{else x}}{{end}}", "no 'else x' here"),
        ("{{end}}", "has no beginning"),
        ("{{}}", "a value is missing"),
        ("{{.Id", "is not closed"),
        ("{{(.Id}}", "parenthesis is not closed"),
        ("{{.Id)}}", "is not expected"),
        ("{{&}}", "cannot read '&'"),
        ('{{"\\q"}}', "cannot read the string"),
        ("{{$a, $b := .Tags}}", "only range has two variables"),
        ("{{with $a, $b := .Tags}}{{end}}", "too many variables"),
        ("{{len 3}}", "has no length"),
        ("{{lower .Size}}", "is not a string"),
        ("{{lower}}", "wrong number of arguments"),
        ('{{eq 1 "1"}}', "cannot be compared"),
        ("{{eq .Tags .Tags}}", "cannot be compared"),
        ("{{eq 1}}", "nothing to compare with"),
        ("{{and}}", "wrong number of arguments"),
        ("{{range .Size}}{{end}}", "is no list and no map"),
        ('{{printf "%d" "x"}}', "does not fit"),
        ('{{printf "%s"}}', "no value for %s"),
        ('{{printf "x" 1}}', "1 values too many"),
        ('{{printf "%z" 1}}', "does not fit"),
    ],
    ids=str,
)
def test_says_what_it_does_not_know(template: str, message: str) -> None:
    with pytest.raises(TemplateFailed, match=message):
        Template.parse(template).render(DATA)
