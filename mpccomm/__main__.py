"""``python -m mpccomm``, the same as the command ``mpccomm``."""

import sys

from mpccomm.cli import main

if __name__ == "__main__":
    sys.exit(main())
