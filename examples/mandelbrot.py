#!/usr/bin/env python3
#SBATCH --job-name=mandelbrot
#SBATCH --time=5:00
"""The area of the Mandelbrot set by counting points, and a picture of it. A job script need not be a shell script.

    hpc submit examples/mandelbrot.py
"""

STEPS = 200


def stays(c):
    z = 0j
    for _ in range(STEPS):
        z = z * z + c
        if abs(z) > 2:
            return False
    return True


def main():
    width, height = 72, 48
    inside = 0
    for row in range(height):
        line = ""
        for column in range(width):
            # The middle of each cell of the rectangle from -2-1.2i to 0.5+1.2i.
            c = complex(-2 + 2.5 * (column + 0.5) / width, -1.2 + 2.4 * (row + 0.5) / height)
            here = stays(c)
            inside += here
            line += "#" if here else "."
        if row % 2 == 0:
            print(line)
    print(f"area: {inside / (width * height) * 2.5 * 2.4:.2f} (known: about 1.51)")


main()
