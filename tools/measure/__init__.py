"""What the bars measure and how: one file a question. Nothing here judges by itself; tools/bars.py does."""

from measure import api, burst, capacity, kills, package, page, serving, shell, starts, submits, twin

MEASUREMENTS = {measurement.id: measurement
                for measurement in (starts.L1, starts.L2, submits.L3, submits.L4, capacity.L5, twin.L6, twin.L7, kills.L8,
                                    api.API, burst.G1, serving.G3, serving.G4, serving.G5, serving.G6, serving.G7, package.W, page.W3, shell.W4)}
