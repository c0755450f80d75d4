"""Files of other implementations (MTT, TESLA, DATM, ...): teacher buffers and distilled sets, read without trust."""
