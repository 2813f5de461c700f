"""An app whose results are kept by another broker than its tasks."""

import os

from results_subject import URL, app, echo  # noqa: F401 - the names of the app.

app.conf.result_backend = os.environ.get("CELERIAC_TEST_RESULTS", URL)
