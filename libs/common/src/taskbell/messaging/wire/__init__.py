"""The connection: how it is opened, its frames and properties, and the errors of a lost one."""
