"""JSON from an API that may answer anything."""

import json
from typing import Any

from ecgjax.data.download.client import Client
from ecgjax.errors import UserError

_LONGEST = 64 << 20  # bytes


def read_json(client: Client, url: str) -> Any:
    """The answer of `url`.

    Raises:
        UserError: it cannot be had, or is no JSON.
    """
    content = client.read(url, _LONGEST)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{url}: the answer is no JSON; is a proxy or a sign-in page in the way?") from error
