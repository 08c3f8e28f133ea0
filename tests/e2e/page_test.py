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

    def asks_again(self):
        """As when its tab is looked at again; until what it asked for then has been answered."""
        self.browser.execute_async_script("""
            document.dispatchEvent(new Event("visibilitychange"));
            fetch("/api/v1/whoami").then(() => setTimeout(arguments[0], 200));""")

    def hold_up(self, path):
        """Replies to this path are not there before `release` is called, with a status to have in their place."""
        self.browser.execute_script("""
            const path = arguments[0], through = window.fetch;
            const gate = new Promise((open) => { window.release = open; });
            window.asked = [];
            window.fetch = async (...all) => {
              asked.push(all[0]);
              if (all[0] !== path) return through(...all);
              const status = await gate;
              return status ? new Response("{}", { status }) : through(...all);
            };""", path)

    def release(self, status=0):
        self.browser.execute_async_script("release(arguments[0]); setTimeout(arguments[1], 200);", status)

    def choose(self, view):
        wait_until("one is signed in", lambda: self.find("#views").is_displayed())
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
        [first] = self.browser.window_handles
        self.browser.switch_to.new_window("tab")
        self.browser.get(f"http://127.0.0.1:{self.port}/")
        wait_until("another tab knows nothing of it", lambda: self.find("#login").is_displayed())
        self.browser.close()
        self.browser.switch_to.window(first)
        self.find("#leave").click()
        self.assertTrue(self.find("#login").is_displayed())
        self.browser.refresh()
        wait_until("it is forgotten", lambda: self.find("#login").is_displayed())
        self.assertFalse(self.find("#all").is_displayed())

    def test_a_token_that_is_being_entered_stays(self):
        self.sign_in()
        self.sees("#link", "live")
        self.find("#leave").click()
        self.find("#token").send_keys(self.token[:5])
        self.asks_again()
        self.assertEqual(self.find("#token").get_attribute("value"), self.token[:5])
        self.find("#token").send_keys(self.token[5:])
        self.find("#login button").click()
        self.sees("#link", "live")

    def test_a_late_refusal_of_an_old_token_signs_nobody_out(self):
        self.sign_in()
        self.sees("#link", "live")
        self.hold_up("/api/v1/fleet")
        self.asks_again()
        wait_until("the fleet is asked for", lambda: "/api/v1/fleet" in self.browser.execute_script("return asked"))
        self.find("#leave").click()
        self.find("#token").send_keys(self.token)
        self.find("#login button").click()
        self.sees("#link", "live")
        self.release(401)
        self.assertTrue(self.find("#all").is_displayed())

    def test_a_token_that_is_revoked_is_asked_for_again(self):
        self.sign_in(self.stargate.run("token", "create", "--name", "page", "--operator").stdout.split()[-1])
        self.sees("#link", "live")
        [row] = self.stargate.json("token", "list")
        self.stargate.run("token", "revoke", row["id"])
        self.sees("#refusal", "not known here")
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

    def test_output_is_of_the_job_that_is_open(self):
        for name in ("slow", "quick"):
            self.submit(name, f"echo output of {name}; sleep 600")
            self.stargate.wait_for(name, "running")
        self.sign_in()
        self.choose("running")
        self.sees("#jobs", "slow", "quick")
        slow = self.stargate.job("slow")["id"]
        self.hold_up(f"/api/v1/jobs/{slow}")
        [button] = [each for each in self.browser.find_elements("css selector", "#jobs button") if each.text == "slow"]
        button.click()
        self.find("#job form button").click()
        self.open_job("quick")
        self.sees("#job-out", "output of quick")
        self.release()
        self.assertEqual(self.text("#job-out"), "output of quick")
        self.assertEqual([path for path in self.browser.execute_script("return asked") if path.startswith(f"/api/v1/jobs/{slow}/logs")], [])

    def test_a_job_that_cannot_be_shown_says_why(self):
        self.submit("some", "sleep 600")
        self.sign_in()
        self.choose("running")
        self.sees("#jobs", "some")
        self.hold_up(f"/api/v1/jobs/{self.stargate.job('some')['id']}")
        self.find("#jobs button").click()
        self.release(503)
        self.sees("#job-said", "503")

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
        self.assertEqual([entry["message"] for entry in self.browser.get_log("browser")], [])


if __name__ == "__main__":
    unittest.main()
