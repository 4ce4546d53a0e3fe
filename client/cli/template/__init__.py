"""The part of Go's text/template that `--format` of docker's and regctl's users needs; all else is an error.

`Template.parse(text).render(data)`. Data is what JSON has: a dict is a struct, whose absent fields are
errors, unless it is an `Open` one, which stands for a Go map, whose absent keys are `<no value>`.
"""

from client.cli.template.evaluate import Open, Template, TemplateFailed

__all__ = ["Open", "Template", "TemplateFailed"]
