"""A visitor of the web page without a browser: uploads files and presses a button."""

import json
import pathlib
import urllib.request
import uuid

_TIMEOUT_SEC = 300


def open_url(url: str, body: object = None):
    """Opens an address, with `body` sent as JSON where there is one."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request, timeout=_TIMEOUT_SEC)


def upload(server: str, path: pathlib.Path) -> pathlib.Path:
    """Sends a file as a browser does; returns its path on the server."""
    boundary = uuid.uuid4().hex
    disposition = f'form-data; name="files"; filename="{path.name}"'
    head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n"
    body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{server}/gradio_api/upload", body, kind)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SEC) as answer:
        return pathlib.Path(json.load(answer)[0])


def press(server: str, button: str, files: dict[int, pathlib.Path], session: str) -> str:
    """Presses a button, without regard to what the page itself would allow.

    Args:
      server: address of the page.
      button: its `elem_id`.
      files: paths on the server, by the number of the input; other inputs have their first values.
      session: the visitor's name for this visit.

    Returns:
      All events that the server sends, as text without spaces.
    """
    with open_url(f"{server}/config") as answer:
        config = json.load(answer)
    values = {c["id"]: c["props"].get("value") for c in config["components"]}
    (go,) = (c["id"] for c in config["components"] if c["props"].get("elem_id") == button)
    (event,) = (d for d in config["dependencies"] if [go, "click"] in map(list, d["targets"]))
    data = [values[component] for component in event["inputs"]]
    for number, path in files.items():
        data[number] = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    call = {"fn_index": event["id"], "data": data, "session_hash": session}
    with open_url(f"{server}/gradio_api/queue/join", call):
        pass
    with open_url(f"{server}/gradio_api/queue/data?session_hash={session}") as events:
        return "".join(line.decode() for line in events).replace(" ", "")
