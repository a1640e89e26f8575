from core.jobs.job import (
    BUNDLED as BUNDLED,
)
from core.jobs.job import (
    KINDS as KINDS,
)
from core.jobs.job import (
    Cancelled as Cancelled,
)
from core.jobs.job import (
    Job as Job,
)
from core.jobs.job import (
    Progress as Progress,
)
from core.jobs.job import (
    cancel as cancel,
)
from core.jobs.job import (
    curves_of as curves_of,
)
from core.jobs.job import (
    find as find,
)
from core.jobs.job import (
    fingerprint as fingerprint,
)
from core.jobs.job import (
    follow as follow,
)
from core.jobs.job import (
    list_jobs as list_jobs,
)
from core.jobs.job import (
    log_tail as log_tail,
)
from core.jobs.job import (
    on_run as on_run,
)
from core.jobs.job import (
    read as read,
)
from core.jobs.job import (
    request_for as request_for,
)
from core.jobs.job import (
    request_of as request_of,
)
from core.jobs.job import (
    request_on as request_on,
)
from core.jobs.job import (
    running as running,
)
from core.jobs.job import (
    start as start,
)
from core.jobs.job import (
    together as together,
)
from core.jobs.job import (
    work as work,
)
