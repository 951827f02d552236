"""Finished log files on their way to S3: whole, under their own names, gone here once there.

A file that is closed never changes, so that an upload that is tried twice leaves one object, with
the file's own name and bytes. Log shippers that read lines (Fluent Bit's s3 output among them) make
objects of their own cut and name instead, and cannot say which lines are in them twice.
"""

from meshml_dbx.planes.render_terms import Rendering

SHIP_S = 30


def ship_command(rendering: Rendering) -> list[str]:
    """What a container does that takes finished files to S3, also the last ones at its end."""
    target, root = rendering.placement.logs_to, rendering.placement.places.log_root
    move = (
        f"aws s3 mv {root} {target} --recursive --only-show-errors "
        "--exclude '*' --include '*/closed/*.jsonl' || :"
    )
    loop = (
        "ended=; trap 'ended=1' TERM INT\n"
        "while :; do\n"
        f"  {move}\n"
        '  [ -z "$ended" ] || exit 0\n'
        f"  sleep {SHIP_S} & wait $! || :\n"
        "done\n"
    )
    return ["sh", "-c", loop]
