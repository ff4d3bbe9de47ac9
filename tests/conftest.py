"""One hypothesis profile for every test: reproducible, no deadline on a shared machine.

``HYPOTHESIS_PROFILE=explore`` looks for new examples, ten times as many.
"""

import os

from hypothesis import settings

settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
