"""What the tests share: real servers, fresh databases and virtual hosts, a mail server that remembers."""
