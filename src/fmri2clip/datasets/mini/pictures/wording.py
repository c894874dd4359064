"""Words of the captions: how categories, places, poses and relations are called."""

from __future__ import annotations

UNINFORMATIVE = (
    "a picture of something",
    "this is a photo",
    "an image that somebody took",
    "a photograph taken some time ago",
    "something can be seen here",
    "one of many pictures",
    "a view of a place",
    "a photo with some things in it",
)
# scene type -> phrases of where, and names of the place itself
WHERE: dict[str, tuple[str, ...]] = {
    "street": ("on a street", "in the city", "on a city street", "near some buildings"),
    "field": ("in a field", "in the grass", "near a fence"),
    "beach": ("on a beach", "by the ocean", "on the sand"),
    "mountains": ("in the mountains", "on a mountain", "near some mountains"),
    "forest": ("in a forest", "among the trees", "in the woods", "near some trees"),
    "harbour": ("in a harbor", "on the water", "by a dock", "near the water"),
    "station": ("at a station", "on a platform", "near the tracks"),
    "sky": ("in the sky", "among the clouds", "under a cloudy sky"),
    "kitchen": ("in a kitchen", "by a kitchen counter", "near some cabinets"),
    "living room": ("in a living room", "by a couch", "near a lamp"),
    "bathroom": ("in a bathroom", "near a sink", "by a bathtub"),
    "office": ("in an office", "by a desk", "near a computer"),
}
NAMES: dict[str, tuple[str, ...]] = {
    "street": ("a street with buildings", "a city street"),
    "field": ("a field with a fence", "a field"),
    "beach": ("a beach", "the ocean and the sand", "a beach with waves"),
    "mountains": ("some mountains", "a mountain and some trees"),
    "forest": ("a forest", "some trees in the woods"),
    "harbour": ("a harbor", "the water and a dock"),
    "station": ("a train station", "a platform and tracks"),
    "sky": ("the sky", "clouds in the sky", "a cloudy sky"),
    "kitchen": ("a kitchen", "a kitchen with cabinets"),
    "living room": ("a living room", "a room with a couch"),
    "bathroom": ("a bathroom", "a bathroom with a sink"),
    "office": ("an office", "an office with a desk"),
}
# category -> singular nouns; the first is the commonest
NOUNS: dict[str, tuple[str, ...]] = {
    "bicycle": ("bicycle", "bike", "bike"),
    "car": ("car",),
    "airplane": ("airplane", "plane"),
    "bus": ("bus",),
    "train": ("train",),
    "boat": ("boat",),
    "traffic light": ("traffic light", "stoplight"),
    "stop sign": ("stop sign",),
    "bird": ("bird",),
    "cat": ("cat",),
    "dog": ("dog",),
    "horse": ("horse",),
    "elephant": ("elephant",),
    "giraffe": ("giraffe",),
    "umbrella": ("umbrella",),
    "sports ball": ("ball",),
    "bottle": ("bottle",),
    "cup": ("cup", "mug"),
    "banana": ("banana",),
    "pizza": ("pizza",),
    "chair": ("chair",),
    "book": ("book",),
    "clock": ("clock",),
}
# (category, form) -> a noun phrase for one of that form, with its article
FORMS: dict[tuple[str, str], str] = {
    ("boat", "sail"): "a sailboat",
    ("boat", "row"): "a rowboat",
    ("train", "steam"): "a steam train",
    ("umbrella", "open"): "an open umbrella",
    ("umbrella", "closed"): "a closed umbrella",
    ("sports ball", "basket"): "a basketball",
    ("sports ball", "foot"): "a soccer ball",
    ("sports ball", "tennis"): "a tennis ball",
    ("sports ball", "beach"): "a beach ball",
    ("cup", "coffee"): "a cup of coffee",
    ("banana", "bunch"): "a bunch of bananas",
    ("banana", "peeled"): "a peeled banana",
    ("pizza", "slice"): "a slice of pizza",
    ("pizza", "whole"): "a whole pizza",
    ("chair", "arm"): "an armchair",
    ("chair", "office"): "an office chair",
    ("book", "open"): "an open book",
    ("book", "row"): "a row of books",
    ("clock", "alarm"): "an alarm clock",
    ("clock", "tower"): "a clock tower",
    ("clock", "pole"): "a clock on a pole",
    ("clock", "wall"): "a clock on a wall",
}
PERSON_WORDS: dict[str, tuple[str, ...]] = {
    "man": ("man", "man", "person"),
    "woman": ("woman", "woman", "person"),
    "child": ("child", "child", "boy", "girl", "person"),
}
PLURALS = {
    "person": "people",
    "man": "men",
    "woman": "women",
    "child": "children",
    "bus": "buses",
}
COUNTS = {2: "two", 3: "three", 4: "four"}
# pose -> (after "a dog", after "a dog is" or as a participle)
DOING: dict[str, tuple[tuple[str, str], ...]] = {
    "standing": (("stands", "standing"),),
    "walking": (("walks", "walking"),),
    "running": (("runs", "running"),),
    "sitting": (("sits", "sitting"),),
    "lying": (("lies", "lying down"),),
    "waving": (("waves", "waving"),),
    "reaching": (("reaches up", "reaching up"), ("raises both arms", "with raised arms")),
    "looking": (("looks at the camera", "looking at the camera"), ("poses", "posing for a photo")),
    "eating": (("eats", "eating"),),
    "flying": (("flies", "flying"),),
    "parked": (("is parked", "parked"),),
    "sailing": (("sails", "sailing"),),
    "floating": (("floats", "floating"),),
    "driving": (("drives", "driving"), ("is parked", "parked")),
    "hanging": (("hangs", "hanging"),),
    "resting": (("sits", "sitting"),),
    "still": (("lies", "lying"), ("sits", "sitting")),
    "served": (("is served", "served"), ("sits", "sitting")),
    "": (("stands", "standing"),),
}
# what things do that have no pose of their own
HABITS = {
    "car": "driving",
    "bus": "driving",
    "train": "driving",
    "clock": "hanging",
    "bottle": "",
    "cup": "resting",
    "book": "resting",
    "sports ball": "still",
    "umbrella": "still",
    "banana": "still",
    "pizza": "served",
}
SIGNS: dict[str, tuple[str, ...]] = {
    "sign": ("a sign", "a sign with writing"),
    "poster": ("a poster", "a poster with writing"),
    "street sign": ("a street sign", "a sign on a pole"),
    "number plate": ("a license plate", "a sign with numbers"),
    "page": ("a printed page", "a page with writing"),
}
HELD = frozenset({"umbrella", "bottle", "cup", "book", "banana", "pizza", "sports ball"})
