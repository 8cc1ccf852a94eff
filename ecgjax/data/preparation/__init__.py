"""From a data set's raw files to a store: what every source shares."""
