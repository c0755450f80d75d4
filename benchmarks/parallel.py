"""The gain from more processes: the exact gradient of one problem by one process and by several, and what they send.

    python benchmarks/parallel.py --workers 2

One process with all cores, one with its share of them (what a worker has, had it the whole batch), and N workers that
divide the batch; each in its own processes, the median of several iterations. ConvNetD3, random data, eager.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

import torch

from engine.matching import WHOLE, Parts, matching_sweeps
from engine.networks import FlatNetwork, build_network
from engine.networks.flat import flatten_parameters
from engine.runtime.distributed.environment import this_place
from engine.runtime.distributed.process_group import joined
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator

MARK = "measured "


def worker(options: argparse.Namespace) -> None:
    """Measure as one of the processes that the environment says there are."""
    torch.set_num_threads(options.threads)
    with joined(this_place()) as ranks:
        generator = counted_generator(0, "problem")
        model = build_network(
            "convnet", channels=3, classes=options.classes, resolution=options.side, width=options.width
        )
        network = FlatNetwork(model)
        start = flatten_parameters(model)
        start = 0.05 * torch.randn(start.shape, generator=generator)
        images = torch.randn(options.batch, 3, options.side, options.side, generator=generator)
        part = ranks.part(options.batch)
        share = (part.stop - part.start) / options.batch
        problem = {
            "start": start,
            "target": start + 0.01 * torch.randn(start.shape, generator=generator),
            "images": images,
            "labels": torch.randn(options.batch, options.classes, generator=generator).softmax(dim=1),
            "student_lr": 0.01,
            "schedule": [(torch.arange(options.batch)[part], lambda x: x)] * options.steps,
            "shares": WHOLE if ranks.size == 1 else Parts(ranks, [share] * options.steps, labels=False),
        }
        seconds, sending = [], []
        for _ in range(options.repeats + 1):
            ranks.led(None)
            begun = time.perf_counter()
            run_to_end(matching_sweeps(network, **problem))
            seconds.append(time.perf_counter() - begun)
        for _ in range(6):
            begun = time.perf_counter()
            ranks.sum_(start)
            sending.append(time.perf_counter() - begun)
        answer = {
            "parameters": network.size,
            "iteration": statistics.median(seconds[1:]),
            "spread": max(seconds[1:]) - min(seconds[1:]),
            "sum": statistics.median(sending[1:]),
        }
        if ranks.writes:
            print(MARK + json.dumps(answer))


def answer_of(command: list[str], processes: int, mark: str) -> dict[str, float]:
    """What the first of so many connected ranks of this machine prints after the mark."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    world |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    started = [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]
    said = [process.communicate()[0] for process in started]
    line = next(line for line in said[0].splitlines() if line.startswith(mark))
    found: dict[str, float] = json.loads(line.removeprefix(mark))
    return found


def measured(processes: int, threads: int) -> dict[str, float]:
    """One configuration, in its own processes."""
    return answer_of([sys.executable, __file__, *sys.argv[1:], "--threads", str(threads)], processes, MARK)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads is not None:
        worker(options)
        return
    cores = len(os.sched_getaffinity(0))
    print(f"torch {torch.__version__}, {cores} cores, batch {options.batch}, T = {options.steps}")
    for processes, threads in ((1, cores), (1, cores // options.workers), (options.workers, cores // options.workers)):
        found = measured(processes, threads)
        print(
            f"{processes} process(es) of {threads} thread(s): {found['iteration']:.3f} s an iteration "
            f"(spread {found['spread']:.3f}, n = {options.repeats}); "
            f"summing {found['parameters']:.0f} numbers {1000 * found['sum']:.1f} ms"
        )


if __name__ == "__main__":
    main()
