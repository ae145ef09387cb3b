"""fvmd of this build in User Mode Linux, where there is no systemd to run it: started, asked, stopped."""
import json, os, socket, subprocess, sys, time

STATE = "/var/lib/fvm"
WORK = "/scratch/fvm"
TEMPLATES = "/run/host/with/templates"
SOCKET = "/run/fvm/fvm.sock"
CGROUP = "/sys/fs/cgroup/fvm.slice/fvmd.service"
LOG = "/run/fvmd.log"
# There is no udev to make nodes, and none to wait for (dmsetup(8)).
os.environ["DM_DISABLE_UDEV"] = "1"
os.makedirs(WORK, exist_ok=True)
daemon = None


def run(*command, **options):
    """A command that has to succeed; its output."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        said = open(LOG).read() if os.path.exists(LOG) else ""
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}{said}")
    return done.stdout.strip()


def fvm(*arguments):
    return run("fvm", *map(str, arguments))


def request(method, path, body=None):
    """Status and what came back, straight from the daemon: some tests ask thousands of times."""
    text = b"" if body is None else json.dumps(body).encode()
    head = f"{method} /v1/{path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(SOCKET)
        client.sendall(head.encode() + text)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def ask(path):
    """A report."""
    status, body = request("GET", path)
    if status != 200:
        sys.exit(f"GET /v1/{path}: {status} {body}")
    return json.loads(body)


def enter():
    """fvmd on what the disk holds."""
    global daemon
    os.makedirs("/run/fvm", exist_ok=True)
    if not os.path.exists("/run/fvm/netd.sock"):
        subprocess.Popen(["fvm-netd", "--listen", "/run/fvm/netd.sock"], stderr=open("/run/netd.log", "w"))
    # A unit of systemd would give it its own cgroup.
    os.makedirs(f"{CGROUP}/fvmd", exist_ok=True)
    command = f"echo 0 > {CGROUP}/fvmd/cgroup.procs; exec fvmd --template-dir {TEMPLATES} --config {WORK}/fvm.toml"
    daemon = subprocess.Popen(["sh", "-c", command], stderr=open(LOG, "w"))
    for _ in range(3000):
        with socket.socket(socket.AF_UNIX) as client:
            if client.connect_ex(SOCKET) == 0:
                return
        if daemon.poll() is not None:
            break
        time.sleep(0.02)
    sys.exit("fvmd does not start:\n" + open(LOG).read())


def leave():
    """fvmd and its pool go away, as they would with the host."""
    daemon.terminate()
    daemon.wait()
    for _ in range(5):
        names = [line.split()[0] for line in run("dmsetup", "ls").splitlines() if line.startswith("fvm-")]
        if not names:
            break
        # Those that stand on others first.
        names.sort(key=lambda name: (name.endswith(("-data", "-meta")), name.endswith("-pool")))
        subprocess.run(["dmsetup", "remove", *names], capture_output=True)
    else:
        sys.exit(f"still there: {names}")
    for _ in range(100):
        if not [line for line in run("losetup", "--list", "--noheadings", "-O", "BACK-FILE").splitlines() if STATE in line]:
            return
        time.sleep(0.05)
    sys.exit("loop devices of the pool are still there")
