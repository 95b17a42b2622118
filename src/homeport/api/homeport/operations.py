"""Homeport's own operations, in one list.

Owns: `OPERATIONS` (name → handler). Never holds logic.
"""

from __future__ import annotations

from typing import Final

from homeport.api.call import Handler
from homeport.api.homeport import capacity, explain, history, past, prediction

OPERATIONS: Final[dict[str, Handler]] = {
    "DescribeAt": past.describe_at,
    "DescribeCapacity": capacity.describe_capacity,
    "DescribeHistory": history.describe_history,
    "PredictChanges": prediction.predict_changes,
    "PredictServiceUpdate": prediction.predict_service_update,
    "ExplainPlacement": explain.explain_placement,
}
