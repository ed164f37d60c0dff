"""Apache Beam jobs: batch scoring and global ranking on one machine or a cluster, with the code of bisift.filter."""
