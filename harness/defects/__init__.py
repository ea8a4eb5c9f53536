"""The table of known defects of Open vSwitch: scenarios that have to fail, on some versions."""
