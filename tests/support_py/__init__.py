"""What all Python tests share: choosing and reporting, running several at once, ports, logs, Java packages."""
