"""Where a switch runs. A node knows nothing of Open vSwitch."""
