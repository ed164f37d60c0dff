"""What the launcher of a Flex Template runs: the rank job, with the template's parameters as its options."""

import runpy

runpy.run_module("bisift.pipelines.rank", run_name="__main__", alter_sys=True)
