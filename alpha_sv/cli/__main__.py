"""`python -m alpha_sv.cli`."""

import sys

from alpha_sv.cli import main

sys.exit(main())
