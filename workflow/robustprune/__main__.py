"""``python -m robustprune`` is the ``robustprune`` command."""

import sys

from robustprune.cli import main

sys.exit(main())
