"""The one judgement: thresholds, rules, and the verdict they add up to. Pure: no clock, no file."""
