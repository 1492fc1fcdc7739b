"""What is imported when."""

import subprocess
import sys
from pathlib import Path

from mpccomm.codec import plugins
from mpccomm.codec.wire import Tag
from mpccomm.errors import MissingExtraError

ROOT = Path(__file__).parents[2]


def test_nothing_optional_is_imported_before_it_is_needed() -> None:
    script = (
        "import sys\n"
        "from mpccomm.codec import decode, encode\n"
        "from mpccomm.errors import EncodingError\n"
        "class Imposter:\n"
        "    pass\n"
        "Imposter.__module__ = 'torch.imposter'\n"
        "decode(encode([1, (2,), {3: {4}}, 2**70, b'x' * 9999]).segments)\n"
        "try:\n"
        "    encode(Imposter())\n"
        "except EncodingError:\n"
        "    pass\n"
        "names = {'numpy', 'gmpy2', 'bitarray', 'pandas', 'pyarrow', 'torch', 'safetensors'}\n"
        "print(sorted(names & sys.modules.keys()))\n"
        "import gmpy2\n"
        "decode(encode([gmpy2.mpz(1)]).segments)\n"
        "print(sorted(names & sys.modules.keys()))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("[]\n['gmpy2']\n", "")


def test_every_tag_has_one_constructor() -> None:
    from mpccomm.codec.decoder import CALLS, LEAVES

    for tag in set(Tag) - {Tag.SEGMENT, Tag.PART, Tag.PARTS, Tag.PADDED}:
        try:
            plugin = plugins.of_tag(tag)
        except MissingExtraError:
            continue
        calls = CALLS if plugin is None else plugin.CALLS
        leaves = LEAVES if plugin is None else plugin.LEAVES
        assert (tag in calls) != (tag in leaves)


def test_a_library_that_cannot_be_imported_is_a_refusal_at_the_sender() -> None:
    script = (
        "import sys\n"
        "sys.modules['safetensors'] = None\n"
        "import types\n"
        "torch = types.ModuleType('torch')\n"
        "sys.modules['torch'] = torch\n"
        "class Tensor:\n"
        "    pass\n"
        "Tensor.__module__ = 'torch'\n"
        "from mpccomm.codec import encode\n"
        "from mpccomm.errors import EncodingError\n"
        "try:\n"
        "    encode([Tensor()])\n"
        "except EncodingError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "message[0]" in run.stdout, run.stderr
    assert "extra 'torch'" in run.stdout
