"""What the launcher of a Flex Template runs: the score job, with the template's parameters as its options."""

import runpy

runpy.run_module("bisift.pipelines.score", run_name="__main__", alter_sys=True)
