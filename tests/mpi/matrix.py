"""matrix.c in Python, for MPIs that come as wheels: the same words, the same lines. See there."""

import os
import signal
import sys
import time
from array import array

mode = sys.argv[1]
numbers = [int(word) for word in sys.argv[2:] if word.isdigit()]
one, two = (numbers + [0, 0])[:2]
flag = [word[6:] for word in sys.argv if word.startswith("ready=")]

if mode == "no-init":
    names = ("PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
    print("NO-INIT pmi={} pmix={} slurm={}".format(*(os.environ.get(name, "unset") for name in names)))
    sys.exit(0)

from mpi4py import MPI  # noqa: E402  (starts MPI; that it ends MPI at exit too is as in most programs)

world = MPI.COMM_WORLD
rank, size = world.Get_rank(), world.Get_size()


def expect(what, got, wanted):
    if got != wanted:
        print(f"MATRIX FAIL rank={rank} {what}: {got}, not {wanted}", flush=True)
        world.Abort(3)


def ring(what, count):
    left, right = (rank - 1) % size, (rank + 1) % size
    out, into = array("i", [rank]) * count, array("i", [-1]) * count
    world.Sendrecv(out, right, 1, into, left, 1)
    expect(what, into == array("i", [left]) * count, True)


def check():
    expect("size", size, one)
    node = world.Split_type(MPI.COMM_TYPE_SHARED, rank)
    per_node, leader = node.Get_size(), int(node.Get_rank() == 0)
    node.Free()
    expect("per_node", per_node, two)
    nodes = world.allreduce(leader)
    expect("sum", world.allreduce(rank), size * (size - 1) // 2)
    ring("ring", 1)
    ring("large ring", 1 << 18)
    expect("alltoall", world.alltoall([(rank, to) for to in range(size)]), [(by, rank) for by in range(size)])
    world.Barrier()
    if rank == 0:
        library = MPI.Get_library_version().splitlines()[0].split(",")[0]
        library = "_".join(library.strip("\0").split())
        print(f"MATRIX OK size={size} nodes={nodes} per_node={per_node} library={library}", flush=True)


def fail():
    if mode == "abort":
        world.Abort(two)
    elif mode == "exit":
        os._exit(two)
    elif mode == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif mode == "segv":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    elif mode == "hang":
        while True:
            time.sleep(60)
    else:
        print(f'matrix: what is "{mode}"?', file=sys.stderr)
        world.Abort(2)


if mode == "check":
    check()
elif mode == "info":
    cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0)))
    omp = os.environ.get("OMP_NUM_THREADS", "unset")
    level = ("single", "funneled", "serialized", "multiple")[
        (MPI.THREAD_SINGLE, MPI.THREAD_FUNNELED, MPI.THREAD_SERIALIZED, MPI.THREAD_MULTIPLE).index(MPI.Query_thread())
    ]
    print(f"INFO rank={rank} size={size} host={os.uname().nodename} cpus={cpus} omp={omp} thread={level}", flush=True)
elif mode == "exit-after-finalize":
    MPI.Finalize()
    sys.exit(two if rank == one else 0)
else:
    world.Barrier()
    for path in flag:
        with open(path, "a") as file:
            file.write(f"{rank}\n")
    if rank == one:
        fail()
    world.Barrier()
