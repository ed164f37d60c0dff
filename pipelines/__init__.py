"""Apache Beam jobs: batch scoring and global ranking on one machine or a cluster, with the code of bisift.filter."""

import logging

_before = logging.root.manager.disable
logging.disable(logging.WARNING)  # Beam warns of each optional package that is not installed
try:
    import apache_beam  # noqa: F401
finally:
    logging.disable(_before)
