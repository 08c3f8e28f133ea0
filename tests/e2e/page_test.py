"""The page in a headless Chromium, on the real control plane: signing in, what is shown, that it is live, what it does."""

import sys
import unittest

from machine import Machine, listening_ports
from harness import Failed, wait_until
from measure.browser import chromium

try:
    with chromium():
        pass
except Failed as why:
    print(why)
    sys.exit(77)


class Page(Machine):
    def setUp(self):
        super().setUp()
        self.up(0)
        [self.port] = listening_ports(self.stargate.pid())
        self.browser = self.enterContext(chromium())
        self.token = (self.state / "token").read_text().strip()

    def up(self, port):
        self.state.mkdir(exist_ok=True)
        self.stargate.run("up", "--detach", "--cpu-gpus", "4", "--listen", f"127.0.0.1:{port}", "--gateway", "127.0.0.1:0")

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def text(self, selector):
        return self.find(selector).text

    def sees(self, selector, *words):
        wait_until(f"{selector} shows {words}", lambda: all(word in self.text(selector) for word in words), 20)

    def sign_in(self, token=None):
        self.browser.get(f"http://127.0.0.1:{self.port}/")
        wait_until("it asks for a token", lambda: self.find("#login").is_displayed())
        self.find("#token").send_keys(token or self.token)
        self.find("#login button").click()

    def choose(self, view):
        self.find(f"[data-view={view}]").click()

    def open_job(self, name):
        self.sees("#jobs", name)
        [button] = [each for each in self.browser.find_elements("css selector", "#jobs button") if each.text == name]
        button.click()
        self.sees("#job-title", name)

    def test_only_who_has_a_token_sees_anything(self):
        self.sign_in("wrong")
        self.sees("#refusal", "no token, or one that is not known here")
        self.assertFalse(self.find("#all").is_displayed())
        self.find("#token").send_keys(self.token)
        self.find("#login button").click()
        self.sees("#fleet-sum", "1 node, 4 of 4 GPUs free")
        self.browser.refresh()  # it is remembered
        self.sees("#link", "live")
        self.find("#leave").click()
        self.assertTrue(self.find("#login").is_displayed())
        self.browser.refresh()
        wait_until("it is forgotten", lambda: self.find("#login").is_displayed())
        self.assertFalse(self.find("#all").is_displayed())

    def test_it_shows_what_happens_while_it_happens(self):
        self.sign_in()
        self.sees("#jobs-none", "Nothing waits")
        self.submit("first", "echo '<img src=x onerror=alert(1)>'; sleep 600", "gpus: 3\n")
        self.sees("#fleet-sum", "1 of 4 GPUs free")
        self.submit("second", "true", "gpus: 4\n")
        self.sees("#jobs", "second", "no free GPUs")
        self.sees("#jobs-sum", "1 waiting, 1 running")
        self.sees("#events", "second handed in", "attempt 1 runs")
        self.choose("running")
        self.open_job("first")
        self.sees("#job-out", "<img src=x onerror=alert(1)>")  # as text
        self.assertEqual(self.browser.find_elements("css selector", "#job-out img"), [])
        self.find("#job-acts button").click()
        self.browser.switch_to.alert.accept()
        self.sees("#job-facts", "cancelled")
        self.find("#job form button").click()
        self.stargate.wait_for("second", "succeeded")
        self.choose("ended")
        self.sees("#jobs", "first", "cancelled", "second", "succeeded")
        self.choose("mine")
        self.sees("#jobs", "first", "second")

    def test_a_waiting_job_is_explained_held_and_released(self):
        self.submit("big", "sleep 600", "gpus: 4\n")
        self.submit("next", "sleep 600", "gpus: 2\n")
        self.sign_in()
        self.open_job("next")
        self.sees("#job-why", "it needs 2 GPUs", "use a class that may preempt")
        self.find("#job-acts button").click()
        self.sees("#job-facts", "held")
        self.assertTrue(self.stargate.job("next")["held"])
        self.sees("#job-acts", "Release")
        self.find("#job-acts button").click()
        self.sees("#job-facts", "no free GPUs")

    def test_it_outlives_the_control_plane(self):
        self.sign_in()
        self.sees("#link", "live")
        self.stargate.kill()
        self.sees("#link", "away")
        self.up(self.port)
        self.sees("#link", "live")
        self.submit("after", "sleep 600", "gpus: 4\nheld: true\n")
        self.sees("#jobs", "after", "held")

    def test_a_phone_needs_no_sideways_scrolling(self):
        self.browser.set_window_size(390, 800)
        self.submit("a-name-that-is-as-long-as-names-of-jobs-may-ever-be-in-any-lab", "sleep 600", "gpus: 4\ncount: 2\n")
        self.sign_in()
        self.sees("#jobs", "a-name-that")
        wide, seen = self.browser.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        self.assertLessEqual(wide, seen)

    def test_nothing_is_complained_of(self):
        self.submit("some", "echo hello; sleep 600")
        self.sign_in()
        self.choose("running")
        self.open_job("some")
        self.sees("#job-out", "hello")
        complaints = [entry["message"] for entry in self.browser.get_log("browser")]
        self.assertEqual([each for each in complaints if "whoami" not in each], [])  # the first look is without a token


if __name__ == "__main__":
    unittest.main()
