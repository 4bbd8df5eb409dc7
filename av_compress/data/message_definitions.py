# Copyright 2026 The av_compress authors
# SPDX-License-Identifier: Apache-2.0
"""The fields of messages that PyPI has no package for: detections (vision_msgs 4.1) and tf.

Bags that hold detections carry these definitions, and where no ROS installation brings the real
packages, Python messages are generated from them. Their type hashes (RIHS01) are those of the real
ones.
"""

from __future__ import annotations

from collections.abc import Mapping

VISION_MSGS: Mapping[str, str] = {
    "vision_msgs/msg/Point2D": """
        float64 x
        float64 y
    """,
    "vision_msgs/msg/Pose2D": """
        vision_msgs/Point2D position
        float64 theta
    """,
    "vision_msgs/msg/BoundingBox2D": """
        vision_msgs/Pose2D center
        float64 size_x
        float64 size_y
    """,
    "vision_msgs/msg/BoundingBox3D": """
        geometry_msgs/Pose center
        geometry_msgs/Vector3 size
    """,
    "vision_msgs/msg/ObjectHypothesis": """
        string class_id
        float64 score
    """,
    "vision_msgs/msg/ObjectHypothesisWithPose": """
        vision_msgs/ObjectHypothesis hypothesis
        geometry_msgs/PoseWithCovariance pose
    """,
    "vision_msgs/msg/Detection2D": """
        std_msgs/Header header
        vision_msgs/ObjectHypothesisWithPose[] results
        vision_msgs/BoundingBox2D bbox
        string id
    """,
    "vision_msgs/msg/Detection2DArray": """
        std_msgs/Header header
        vision_msgs/Detection2D[] detections
    """,
    "vision_msgs/msg/Detection3D": """
        std_msgs/Header header
        vision_msgs/ObjectHypothesisWithPose[] results
        vision_msgs/BoundingBox3D bbox
        string id
    """,
    "vision_msgs/msg/Detection3DArray": """
        std_msgs/Header header
        vision_msgs/Detection3D[] detections
    """,
    "vision_msgs/msg/VisionClass": """
        uint16 class_id
        string class_name
    """,
    "vision_msgs/msg/LabelInfo": """
        std_msgs/Header header
        vision_msgs/VisionClass[] class_map
        float32 threshold
    """,
    "vision_msgs/msg/Classification": """
        std_msgs/Header header
        vision_msgs/ObjectHypothesis[] results
    """,
}

TF2_MSGS: Mapping[str, str] = {
    "tf2_msgs/msg/TFMessage": """
        geometry_msgs/TransformStamped[] transforms
    """,
}
