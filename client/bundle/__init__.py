"""OCI runtime bundles: an image's configuration as the config.json that runc and others start.

`bundle.write_bundle` is the way in. Source: image-spec conversion.md; runtime-spec bundle.md, config.md.
"""
