"""The stack does what the README promises of it: isolation, scaling, deploys, crashes."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from tests.compose.conftest import WORKERS
from tests.compose.stack import Stack, docker, wait_until

ROLES = ("api", "relay", "maintenance", "worker_high", "worker")

pytestmark = pytest.mark.timeout(600)


def test_tasks_spread_over_the_replicas(stack: Stack, tag: str) -> None:
    stack.submit(90, payload={"seconds": 0.5}, tags=[tag])
    tasks = stack.final(tag, seconds=60)
    assert Counter(task["status"] for task in tasks.values()) == {"succeeded": 90}
    assert {task["result"] for task in tasks.values()} == {each[:12] for each in stack.ids("worker")}


def test_urgent_tasks_pass_a_backlog(stack: Stack, tag: str) -> None:
    stack.submit(WORKERS * 10 * 6, payload={"seconds": 1}, priority="low", tags=[tag])
    began = time.monotonic()
    [urgent] = stack.submit(1, payload={"seconds": 0}, priority="high")
    task = stack.call("GET", f"/v1/tasks/{urgent}?wait=10")
    assert task["status"] == "succeeded"
    assert time.monotonic() - began < 2
    assert not all(each["finished_at"] for each in stack.tasks(tag).values())
    stack.final(tag, seconds=60)


def test_isolated_handlers_find_what_they_need_in_a_read_only_container(stack: Stack, tag: str) -> None:
    stack.submit(3, type="slow.isolated", tags=[tag])
    tasks = stack.final(tag, seconds=60)
    assert [task["status"] for task in tasks.values()] == ["succeeded"] * 3
    assert len({(task["worker"], task["result"]) for task in tasks.values()}) == 3


def test_containers_of_roles_are_unprivileged(stack: Stack) -> None:
    inspected = stack.inspect(*ROLES)
    assert len(inspected) == len(ROLES) - 1 + WORKERS
    for details in inspected.values():
        assert details["Config"]["User"] == "10001:10001"
        assert details["HostConfig"]["ReadonlyRootfs"]
        assert details["HostConfig"]["CapDrop"] == ["ALL"]
        assert not details["HostConfig"]["Privileged"]
    for role in ROLES:
        status = stack.compose("exec", "-T", role, "cat", "/proc/1/status")
        assert "Uid:\t10001\t10001\t10001\t10001" in status
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        for path in ("/srv/aftercommit/x", "/opt/venv/x", "/x"):
            assert stack.compose("exec", "-T", role, "sh", "-c", f"touch {path} 2>&1 || echo refused").count("refused")


def test_image_has_no_secret_and_no_compiler(stack: Stack) -> None:
    assert stack.compose("exec", "-T", "api", "sh", "-c", "command -v gcc cc make || echo none").strip() == "none"
    found = stack.compose("exec", "-T", "api", "sh", "-c", "ls -A /srv/aftercommit").split()
    assert sorted(found) == ["aftercommit", "alembic", "alembic.ini", "app"]
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", stack.project)
    assert "PASSWORD" not in history.upper()


def test_only_the_api_and_the_management_page_are_published_on_loopback(stack: Stack) -> None:
    published = {
        (container["Service"], port["TargetPort"], port["URL"])
        for container in stack.containers()
        for port in container["Publishers"]
        if port["PublishedPort"]
    }
    assert published == {("api", 8000, "127.0.0.1"), ("rabbitmq", 15672, "127.0.0.1")}


def test_missing_password_is_told(stack: Stack) -> None:
    (stack.folder / "other.env").write_text("RABBITMQ_PASSWORD=x\n")
    with pytest.raises(AssertionError, match=r"POSTGRES_PASSWORD.*cp \.env\.example \.env"):
        stack.compose("--env-file", "other.env", "config", "--quiet")


def test_crashed_role_comes_back(stack: Stack) -> None:
    [before] = stack.inspect("relay").values()
    # All processes but the init that holds the container.
    stack.compose("exec", "-T", "relay", "sh", "-c", "kill -9 -1", check=False)

    def is_back() -> bool:
        [now] = stack.inspect("relay").values()
        return bool(now["RestartCount"] > before["RestartCount"] and now["State"]["Running"])

    wait_until(is_back, seconds=30, what="the relay runs again")
    stack.until_healthy()


@pytest.mark.parametrize("victims", [("rabbitmq",), ("worker", "rabbitmq")], ids=" and ".join)
def test_nothing_is_lost_when_containers_are_killed(whole: Stack, tag: str, victims: tuple[str, ...]) -> None:
    """The account: what was acknowledged ends succeeded, and nothing else ran."""
    with ThreadPoolExecutor(1) as threads:
        load = threads.submit(submit_steadily, whole, tag)
        wait_until(
            lambda: any(task["status"] == "running" for task in whole.tasks(tag).values()),
            seconds=30,
            what="the load runs",
        )
        for victim in victims:
            docker("kill", whole.ids(victim)[0])
            time.sleep(1)  # the load goes on between one death and the next
        submitted = load.result()
    whole.up(worker=WORKERS)
    tasks = whole.final(tag, seconds=120)
    lost, unexpected = set(submitted) - set(tasks), set(tasks) - set(submitted)
    assert (lost, unexpected) == (set(), set())
    assert Counter(task["status"] for task in tasks.values()) == {"succeeded": len(submitted)}
    wait_until(lambda: whole.call("GET", "/v1/outbox")["unpublished"] == 0, seconds=30, what="the outbox is empty")
    assert whole.call("GET", "/v1/queues")["dead_letters"] == 0
    print("attempts:", Counter(task["attempt"] for task in tasks.values()))


def submit_steadily(stack: Stack, tag: str) -> list[str]:
    """The ids of what was acknowledged; the API must take every batch, whatever the broker does."""
    acknowledged: list[str] = []
    for _ in range(20):
        acknowledged += stack.submit(25, payload={"seconds": 0.5}, tags=[tag])
        time.sleep(0.3)  # steadily: the deaths shall fall into the load
    return acknowledged


def test_scaling_down_charges_no_attempt(whole: Stack, tag: str) -> None:
    """Tasks longer than WORKER_SHUTDOWN_SECONDS, none of which may be retried."""
    whole.submit(24, payload={"seconds": 6}, max_retries=0, tags=[tag])
    wait_until(
        lambda: Counter(task["status"] for task in whole.tasks(tag).values())["running"] == 24,
        seconds=30,
        what="all tasks run",
    )
    whole.up(worker=1)
    tasks = whole.final(tag, seconds=90)
    assert Counter(task["status"] for task in tasks.values()) == {"succeeded": 24}
    again = [task["id"] for task in tasks.values() if task["attempt"] > 1]
    assert again, "the workers that went had nothing to release"
    for task_id in again:
        outcomes = [each["outcome"] for each in whole.call("GET", f"/v1/tasks/{task_id}/attempts")["attempts"]]
        assert outcomes[-1] == "succeeded"
        assert set(outcomes[:-1]) == {"released"}


def test_containers_stop_in_order_within_their_grace(whole: Stack, tag: str) -> None:
    whole.submit(20, payload={"seconds": 8}, tags=[tag])
    wait_until(
        lambda: any(task["status"] == "running" for task in whole.tasks(tag).values()), seconds=30, what="tasks run"
    )
    for role in ROLES:
        began = time.monotonic()
        whole.compose("stop", role)
        print(f"{role} stopped within {time.monotonic() - began:.1f} s")
    codes = {name: details["State"]["ExitCode"] for name, details in whole.inspect(*ROLES).items()}
    assert set(codes.values()) == {0}, codes
    whole.up(worker=WORKERS)
    tasks = whole.final(tag, seconds=60)
    assert Counter(task["status"] for task in tasks.values()) == {"succeeded": 20}


def test_data_survive_down_and_up(whole: Stack, tag: str) -> None:
    [done] = whole.submit(1, payload={"seconds": 0}, tags=[tag])
    assert whole.call("GET", f"/v1/tasks/{done}?wait=20")["status"] == "succeeded"
    whole.compose("stop", "worker", "worker_high")
    waiting = whole.submit(5, payload={"seconds": 0}, tags=[tag])
    whole.compose("down")
    assert whole.containers() == []
    whole.up(worker=WORKERS)
    assert whole.call("GET", f"/v1/tasks/{done}")["result"]
    tasks = whole.final(tag, seconds=60)
    assert set(tasks) == {done, *waiting}
    assert Counter(task["status"] for task in tasks.values()) == {"succeeded": 6}


@pytest.mark.parametrize("example", ["mounted", "baked"])
def test_example_handlers_run(whole: Stack, example: str) -> None:
    files = ("docker-compose.yml", f"examples/{example}.yml")
    if example == "baked":
        whole.compose("build", "worker", files=files)
    whole.compose("up", "-d", "--no-deps", "worker", files=files)
    order = {"order": 17, "email": f"{uuid4().hex}@example.com"}
    [confirmed] = whole.submit(1, type="order.confirm", payload=order)
    [invoiced] = whole.submit(1, type="order.invoice", payload={"order": 17, "printer_comes_back_at_attempt": 2})
    assert whole.call("GET", f"/v1/tasks/{confirmed}?wait=30")["result"]["sent_to"] == order["email"]
    task = whole.call("GET", f"/v1/tasks/{invoiced}?wait=30")
    assert (task["result"], task["attempt"]) == ("invoice-17.pdf", 2)
