"""One thread for each process, as `make test` has it, however the tests are started.

PyTorch's threads do not survive a fork: a test that trains in a forked process would wait for them
for ever. So this comes before PyTorch is imported.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
