"""Who may ask: the SDK's ways to send a key, right and wrong, against a server that wants one."""
import hashlib

from sdk import PARTS, config, refused
from served import Served, expect, free_port

KEY, OTHER, WRONG = "a key of the tests", "another key", "no key of the tests"
TRANSPORTS = ("legacy", "both", "header")


def locked(bench, more=""):
    """A second server on the same cache, which wants one of two keys."""
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER)]
    return Served(bench.ground, f'{config(bench.ground)}[http]\naccess = "token"\ntokens_sha256 = {digests}\n{more}')


def calls(client, bench):
    """Everything the SDK asks that carries a key; v0 last, because it selects."""
    return {
        "list_loaded_models": client.list_loaded_models,
        "load_model": lambda: client.load_model(PARTS),
        "infer v1": lambda: client.select_api_v1().infer(bench.picture, PARTS),
        "list_inference_pipelines": client.list_inference_pipelines,
        "infer v0": lambda: client.select_api_v0().infer(bench.picture, PARTS),
    }


def right_keys(bench):
    """Each key opens the server in each transport: query, body, header."""
    with locked(bench) as served:
        for transport in TRANSPORTS:
            for key in (KEY, OTHER):
                answers = {name: call() for name, call in
                           calls(bench.client(url=served.url, key=key, transport=transport), bench).items()}
                for name in ("infer v1", "infer v0"):
                    bench.same(answers[name], PARTS, bench.picture)


def wrong_keys(bench):
    """A wrong key, or none, is a 401 or 403 on every call, and is not in the log."""
    with locked(bench) as served:
        for transport in TRANSPORTS:
            # v0 of the SDK wants some key; None is sent as the word None.
            for key in (WRONG, "", KEY.upper(), KEY + "x", None):
                for name, call in calls(bench.client(url=served.url, key=key, transport=transport), bench).items():
                    if key is None and name == "infer v0":
                        continue
                    refused_as(call, f"{name}, {transport}, {key!r}")
        log = served.log.read_text()
        for key in (KEY, OTHER, WRONG):
            expect(key not in log and key.replace(" ", "%20") not in log and key.replace(" ", "+") not in log,
                   f"a key is in the log: {key}")


def refused_as(call, what):
    for status in (401, 403):
        try:
            refused(call, status)
            return
        except Exception as error:  # noqa: BLE001
            seen = error
    expect(False, f"{what}: {seen}")


def unload_needs_a_header(bench):
    """The SDK sends no key with unload_*() but in the header; so those need that transport."""
    with locked(bench) as served:
        client = bench.client(url=served.url, key=KEY, transport="header")
        client.load_model(PARTS)
        refused_as(lambda: bench.client(url=served.url, key=KEY).unload_model(PARTS), "unload_model without a key")
        expect(client.list_loaded_models().models, "unloaded without a key")
        client.unload_model(PARTS)
        expect(not client.list_loaded_models().models, "not unloaded with the key")


def health_is_open(bench):
    """Health needs no key, on the port and on an address of its own, which answers nothing else."""
    port = free_port()
    with locked(bench, f'health_listen = "127.0.0.1:{port}"\n') as served:
        main = served.url
        for url in (main, f"http://127.0.0.1:{port}"):
            served.url = url
            health = served.get("/healthz")
            expect(health.status == 200 and health.json() == {"status": "healthy"}, f"{url}/healthz: {health}")
            expect(served.get("/readiness").status == 200, f"{url}/readiness")
        for path in ("/model/registry", "/info", "/status", "/metrics", f"/{PARTS}", f"/model/registry?api_key={KEY}"):
            expect(served.get(path.replace(" ", "%20")).status in (401, 403, 404), f"the health address answers {path}")
        served.url = main
        for path in ("/model/registry", "/metrics", "/status", "/snapshot.jpg", "/logs"):
            expect(served.get(path).status in (401, 403), f"{path} is open: {served.get(path)}")


def every_way_in(bench):
    """Query, header and body, each alone; a right key in one place is not undone by none in another."""
    with locked(bench) as served:
        encoded = KEY.replace(" ", "%20")
        body = {"model_id": PARTS}
        for what, expected, answer in (
                ("query", 200, served.post(f"/model/add?api_key={encoded}", body)),
                ("header", 200, served.post("/model/add", body, headers={"Authorization": f"Bearer {KEY}"})),
                ("body", 200, served.post("/model/add", {**body, "api_key": KEY})),
                ("none", 401, served.post("/model/add", body)),
                ("scheme", 401, served.post("/model/add", body, headers={"Authorization": f"Basic {KEY}"})),
                ("null", 401, served.post("/model/add", {**body, "api_key": None})),
                ("number", 401, served.post("/model/add", {**body, "api_key": 7})),
                ("a digest", 401, served.post("/model/add", {**body, "api_key": hashlib.sha256(KEY.encode()).hexdigest()}))):
            # 403 is as good a no as 401, and 422 where the key is no text.
            expect(answer.status == expected or (expected == 401 and answer.status in (401, 403, 422)), f"{what}: {answer}")


def refused_elsewhere(bench):
    """Listening on all addresses without a key configured, everything but health is refused with what to set."""
    with Served(bench.ground, config(bench.ground), address="0.0.0.0") as served:
        answer = served.get("/model/registry")
        expect(answer.status in (401, 403), f"{answer}")
        text = answer.body.decode()
        expect("http.tokens_sha256" in text and "http.access" in text, f"it does not say what to set: {text}")
        expect(served.get("/healthz").status == 200, "health is refused")
    with Served(bench.ground, config(bench.ground) + '[http]\naccess = "open"\n', address="0.0.0.0") as served:
        expect(served.get("/model/registry").status == 200, 'access = "open" does not open')


CHECKS = (right_keys, wrong_keys, unload_needs_a_header, health_is_open, every_way_in, refused_elsewhere)
