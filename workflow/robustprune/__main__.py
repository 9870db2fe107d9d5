"""``python -m robustprune`` is the ``robustprune`` command."""

import sys

from robustprune.cli.main import main

sys.exit(main())
