"""What the bars measure and how: one file a question. Nothing here judges by itself; tools/bars.py does."""

from measure import api, capacity, kills, starts, submits, twin

MEASUREMENTS = {measurement.id: measurement
                for measurement in (starts.L1, starts.L2, submits.L3, submits.L4, capacity.L5, twin.L6, twin.L7, kills.L8,
                                    api.API)}
