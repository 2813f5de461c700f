"""Open pages in a browser: they follow what happens, and nothing changes under somebody's hands."""

import unittest

import browsing
from selenium.webdriver.common.by import By


class Live(unittest.TestCase):
    """One broker and one browser for all tests of this class."""

    def setUp(self):
        self.broker = browsing.Broker()
        self.addCleanup(self.broker.close)
        self.driver = self.enterContext(browsing.chromium())

    def open(self, path):
        """Opens a page and waits for its stream."""
        self.driver.get(self.broker.url + path)
        live = self.driver.find_element(By.ID, "live")
        browsing.wait(lambda: live.text == "Live", "the stream is open")

    def has(self, text):
        """Whether the page has this text."""
        return text in self.driver.find_element(By.TAG_NAME, "main").text

    def test_a_page_shows_what_happens_without_a_reload(self):
        self.broker.submit({"name": "a", "id": "first"})
        self.open("/queue?name=default")
        self.driver.execute_script("window.stays = 1")
        self.broker.submit({"name": "a", "id": "task-two"})
        browsing.wait(lambda: self.has("task-two"), "the task is on the page")
        self.assertEqual(self.driver.execute_script("return window.stays"), 1)

    def test_two_tabs_show_the_same(self):
        self.broker.submit({"name": "a", "id": "first"})
        self.open("/queue?name=default")
        one = self.driver.current_window_handle
        self.driver.switch_to.new_window("window")
        self.open("/queue?name=default")
        self.driver.find_element(By.XPATH, "//button[text()='Pause']").click()
        browsing.wait(lambda: self.has("The queue is paused."), "the second tab has done it")
        self.driver.switch_to.window(one)
        browsing.wait(lambda: self.has("Paused"), "the first tab shows it")
        # Both tabs try to do the same: the second one is told, and nothing breaks.
        self.driver.find_element(By.XPATH, "//button[text()='Resume']").click()
        browsing.wait(lambda: self.has("The queue delivers again."), "the first tab has done it")

    def test_a_page_goes_on_after_a_restart_of_the_broker(self):
        self.broker.submit({"name": "a", "id": "first"})
        self.open("/queue?name=default")
        self.driver.execute_script("window.stays = 1")
        self.broker.stop()
        live = self.driver.find_element(By.ID, "live")
        browsing.wait(lambda: live.text == "Reconnects…", "the page says that it is alone")
        self.broker.start()
        self.broker.submit({"name": "a", "id": "task-two"})
        browsing.wait(lambda: self.has("task-two"), "the page has what came after the restart")
        browsing.wait(lambda: live.text == "Live", "the stream is open again")
        self.assertEqual(self.driver.execute_script("return window.stays"), 1)

    def test_nothing_jumps_while_a_row_is_chosen(self):
        self.broker.submit({"name": "a", "id": "first"})
        self.open("/tasks")
        tick = self.driver.find_element(By.CSS_SELECTOR, "input[name=id]")
        tick.click()
        self.broker.submit({"name": "a", "id": "task-two"})
        browsing.wait(
            lambda: self.broker.look("/tasks/task-two")["id"] == "task-two", "it is there"
        )
        # The test is about what does not happen within some looks of the page.
        self.driver.execute_async_script("setTimeout(arguments[0], 3000)")
        self.assertFalse(self.has("task-two"))
        self.assertTrue(tick.is_selected())
        tick.click()
        browsing.wait(lambda: self.has("task-two"), "the page goes on")

    def test_the_switch_stops_the_page_and_stays(self):
        self.broker.submit({"name": "a", "id": "first"})
        self.open("/queue?name=default")
        live = self.driver.find_element(By.ID, "live")
        live.click()
        self.assertEqual((live.text, live.get_attribute("aria-pressed")), ("Live", "false"))
        self.driver.refresh()
        live = self.driver.find_element(By.ID, "live")
        self.assertEqual(live.get_attribute("aria-pressed"), "false")
        self.broker.submit({"name": "a", "id": "task-two"})
        # The test is about what does not happen within some looks of the page.
        self.driver.execute_async_script("setTimeout(arguments[0], 2500)")
        self.assertFalse(self.has("task-two"))
        live.click()
        browsing.wait(lambda: self.has("task-two"), "the page goes on")


if __name__ == "__main__":
    unittest.main()
