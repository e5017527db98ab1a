"""What tests of web pages share: headless Chromium (webdriver.py) and a proxy before the jobmanager (proxy.py)."""
