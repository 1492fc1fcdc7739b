"""How the site is built: ``python -m sphinx -W -n docs <where to>``. Nothing is fetched from the network."""

import builtins
import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "mpccomm"
html_show_copyright = False
version = release = version_of("mpccomm")
html_title = f"mpccomm {release}"

extensions = ["sphinx.ext.autodoc", "myst_nb", "sphinx_copybutton", "command_help", "house", "outside", "states"]
exclude_patterns = ["_build", "extensions"]
root_doc = "index"
default_role = "py:obj"
html_theme = "furo"
html_copy_source = False
html_static_path = ["static"]
# What is printed is nothing to copy.
copybutton_selector = ", ".join(
    f"div.highlight-{language} pre" for language in ("sh", "python", "toml", "yaml", "nginx", "ipython3")
)
html_css_files = ["site.css"]
# The default underlines the names of modules, as if they led somewhere.
pygments_dark_style = "a11y-dark"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# The tests execute the notebooks. With this set their outputs are shown as well; it takes a minute.
nb_execution_mode = "force" if os.environ.get("MPCCOMM_DOCS_EXECUTE") else "off"
nb_execution_raise_on_error = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}

nitpicky = True
# Where the standard library and other packages are documented would have to be fetched; and a name between single
# backticks is code, whether it leads somewhere or not.
nitpick_ignore_regex = [("py:(?!obj).*", r"(?!mpccomm\b).*"), ("py:obj", ".*")]
# In signatures, and nothing to look up.
nitpick_ignore = [
    ("py:class", "mpccomm.codec.registry.Class"),
    ("py:class", "mpccomm.engine.abc.RemoteParty"),
    ("py:class", "mpccomm.engine.base_pool.BasePool"),
    ("py:class", "mpccomm.engine.options.Unset"),
    ("py:class", "mpccomm.trace.clocks.Clock"),
    ("py:class", "mpccomm.transport.memory.T"),
    ("py:class", "mpccomm.transport.memory._Connector"),
    ("py:class", "mpccomm.transport.memory._RelayAccess"),
    ("py:class", "mpccomm.transport.network.Network"),
    ("py:class", "mpccomm.transport.network.RelayUser"),
    ("py:class", "mpccomm.transport.reconnect.DialTerms"),
    ("py:class", "mpccomm.transport.handshake.Authenticator"),
    ("py:class", "mpccomm.transport.listener.Acceptor"),
    ("py:class", "mpccomm.transport.shared_port.Listener"),
    ("py:class", "mpccomm.transport.shared_port.Membership"),
]


def _leave_builtins_alone(app: Sphinx, document: nodes.document) -> None:
    """In a signature ``bytes`` is the type, and not the only thing here that is called so."""
    for reference in list(document.findall(pending_xref)):
        if hasattr(builtins, reference["reftarget"]):
            reference.replace_self(reference.children)


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", _leave_builtins_alone)
