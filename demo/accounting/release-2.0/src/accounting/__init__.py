"""The accounting site. `RELEASE` stands in every page's footer and in the header `X-Release`."""

RELEASE = "2.0"
