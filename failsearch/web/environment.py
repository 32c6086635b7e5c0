"""The templates of pages and reports; Jinja escapes every value."""

from pathlib import Path
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

HERE = Path(__file__).parent
STATIC = HERE / "static"

ENVIRONMENT = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters["percent"] = lambda share: f"{100 * share:.1f}\N{NO-BREAK SPACE}%"
ENVIRONMENT.filters["rounded"] = lambda share: f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
ENVIRONMENT.filters["count_of"] = lambda number: f"{number:,}"
ENVIRONMENT.filters["points"] = lambda change: f"{100 * change:+.2f}".replace("-", "\N{MINUS SIGN}")
ENVIRONMENT.filters["breakable"] = lambda path: escape(path).replace("/", Markup("/<wbr>"))
ENVIRONMENT.filters["segment"] = lambda text: quote(str(text), safe="")
ENVIRONMENT.globals["query"] = lambda **values: urlencode(
    {key: value for key, value in values.items() if value not in (None, "")}, doseq=True
)
