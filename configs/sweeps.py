"""The paper's tables as sweeps: generators of points, with the paper's numbers beside them.

    python -m delt_jax.sweep --sweep=configs/sweeps.py:methods,data=cifar10,ipc=10,source=data/cifar10 --workdir=runs/methods

Sweeps (arXiv 2411.19946):

    methods           every method on one data set, IPC and teacher
    main              table 1: data sets x IPC x teachers, delt and rded
    round_iterations  RI, the iterations between two joins
    iterations        MI, the iterations of the images that join first, at one RI
    init              EarlyLate from noise and from real images
    selection         from hard, medium and easy images
    students          one distilled set, students of other architectures
    continual         classes arrive in steps, of which a method's images are the memory

Arguments of all: `data` (a config's name), `ipc`; and `source`, `teacher`, `weights`, `statistics`, `published`, `smoke`, which go to the
config. Where several values make sense they are joined by +: `ipc=10+50`. Of single sweeps: `methods` and `schedule` (methods, main,
continual), `lengths` (round_iterations, iterations), `modes` (selection), `students` (students), `steps` (continual). `schedule=MI/RI`
sets MI and RI of the methods that have a synthesis; titles say so.
"""

import difflib
import itertools

from configs import base, presets
from delt_jax.errors import InputError
from delt_jax.sweep.points import Claim, Paper, Point, Sweep

SMALL = (
    "cifar10",
    "cifar100",
    "digits",
    "tiny_imagenet",
)  # whose networks have the stem for small images

# Table 1, by config and teacher (and student): IPC -> (DELT, RDED); top-1 in %, mean of three seeds.
MAIN = {
    ("cifar10", "resnet18"): {1: (24.0, 22.9), 10: (43.0, 37.1), 50: (64.9, 62.1)},
    ("cifar10", "resnet101"): {1: (20.4, 18.7), 10: (37.4, 33.7), 50: (54.1, 51.6)},
    ("cifar10", "mobilenet_v2"): {1: (20.2, None), 10: (29.3, None), 50: (42.9, None)},
    ("imagenette", "resnet18"): {1: (24.1, 35.8), 10: (66.0, 61.4), 50: (88.2, 80.4)},
    ("imagenette", "resnet101"): {1: (19.4, None), 10: (55.4, None), 50: (83.3, None)},
    ("imagenette", "mobilenet_v2"): {1: (19.1, None), 10: (64.7, None), 50: (85.7, None)},
    ("imagenette", "conv5"): {1: (29.8, None), 10: (51.7, None), 50: (84.5, None)},
    ("tiny_imagenet", "resnet18"): {1: (9.3, 9.7), 10: (43.0, 41.9), 50: (55.7, 58.2)},
    ("tiny_imagenet", "resnet101"): {1: (5.6, None), 10: (42.8, None), 50: (58.5, None)},
    ("tiny_imagenet", "mobilenet_v2"): {1: (3.5, None), 10: (26.5, None), 50: (51.3, None)},
    ("tiny_imagenet", "conv4"): {1: (12.4, None), 10: (40.0, None), 50: (48.6, None)},
    ("imagenet100", "resnet18"): {10: (28.2, 36.0), 50: (67.9, 61.6), 100: (75.1, 74.5)},
    ("imagenet100", "resnet101"): {10: (22.4, None), 50: (70.8, None), 100: (77.6, None)},
    ("imagenet100", "mobilenet_v2"): {10: (15.8, None), 50: (55.0, None), 100: (76.7, None)},
    ("imagenet100", "conv6"): {10: (24.7, None), 50: (51.9, None), 100: (61.5, None)},
    ("imagenet", "resnet18"): {10: (46.1, 42.0), 50: (59.2, 56.5), 100: (62.4, 59.8)},
    ("imagenet", "resnet101"): {10: (48.5, 48.3), 50: (66.1, 61.2), 100: (67.6, None)},
    ("imagenet", "mobilenet_v2"): {10: (35.5, None), 50: (56.2, None), 100: (58.9, None)},
    ("imagenet", "conv4"): {1: (8.8, None), 10: (31.3, None), 50: (41.7, None)},
}
# Sides of images in px where ConvNets see other ones than ResNets do (LINs-lab/RDED scripts/ at 3f6453d).
CONVNET_SIZES = {
    ("imagenette", "conv5"): 128,
    ("imagenet100", "conv6"): 128,
    ("imagenet", "conv4"): 64,
}
# IPC 1 takes constant iterations, and as many only for ResNet-18 as the configs say.
SINGLE_ITERATIONS = {("cifar10", "resnet101"): 3000, ("imagenette", "mobilenet_v2"): 2000}
# Ablations, ResNet-18: (config, IPC, method) -> top-1.
ABLATIONS = {
    ("imagenet", 10, "cda_real"): 43.5,  # CDA with real images to start from
    ("tiny_imagenet", 10, "cda_real"): 42.2,
    ("cifar10", 10, "cda_real"): 39.4,
    ("imagenet", 50, "sre2l"): 46.8,  # from noise, as they were published
    ("imagenet", 50, "sre2l_early_late"): 53.4,
    ("imagenet", 50, "cda"): 53.5,
    ("imagenet", 50, "cda_early_late"): 55.9,
}
ITERATIONS = {1000: 44.87, 2000: 45.61, 4000: 46.42}  # ImageNet-1K, IPC 10, RI 500
SELECTION = {"min": 57.55, "medium": 57.67, "top": 57.03}  # ImageNet-1K, IPC 50, 500 iterations
# ImageNet-1K, IPC 10, images of ResNet-18: student -> (DELT, RDED).
STUDENTS = {
    "teacher": (46.4, 42.3),
    "efficientnet_b0": (47.1, 42.8),
    "mobilenet_v2": (36.1, 34.4),
    "mnasnet1_3": (40.7, 40.0),
    "regnet_y_8gf": (57.5, 54.8),
}
SMALL_STUDENTS = ("teacher", "mobilenet_v2_small", "efficientnet_b0", "regnet_y_400mf")
# What the paper's figure of diversity shows, read off it; ImageNet-1K, IPC 50.
COSINES = {"delt": ".86-.88", "cda": ".91-.92", "rded": ".905-.935", "sre2l": ".925-.935"}


def get_sweep(arg=None):
    """The sweep that `arg` names, with the arguments behind its name."""
    name, _, rest = (arg or "").partition(",")
    if name not in SWEEPS:
        near = difflib.get_close_matches(name, SWEEPS, 1) or SWEEPS
        raise InputError(f"sweep: got {name!r}, expected {' or '.join(near)}")
    return SWEEPS[name](rest)


def methods(arg):
    """Every method on one data set, IPC and teacher."""
    arg = _parse(arg, data="cifar10", ipc=10, schedule="", methods="+".join(presets.METHODS))
    chosen = arg.methods.split("+")
    arch = _family(arg.data, arg.teacher)
    points = [
        Point(
            method,
            _config(arg, arg.data, arg.ipc, method),
            {"evaluate.sets": ("distilled",), **_schedule(arg, method)},  # the controls are points
            _paper(arg, arg.data, arch, arg.ipc, method),
        )
        for method in chosen
    ]
    claims = []
    if "delt" in chosen:
        by_name = {point.name: point for point in points}
        for other in (name for name in chosen if name != "delt"):
            claims += _top1_claims(by_name["delt"], by_name[other]) or [
                Claim("delt", other, "top1", _expectation(other))
            ]
            # A single image is its own centroid.
            if other not in ("selected", "random") and arg.ipc != 1:
                claims.append(Claim("delt", other, "cosine", _cosine_source(other)))
    title = _title(arg, "Methods")
    return Sweep("methods", title, tuple(points), tuple(claims))


def main(arg):
    """Table 1: data sets x IPC x teachers, for each DELT and, where the paper has it, RDED."""
    arg = _parse(
        arg,
        data="cifar10+imagenette+tiny_imagenet+imagenet100+imagenet",
        ipc="",
        teacher="resnet18+resnet101+mobilenet_v2",
        schedule="",
        methods="delt+rded",
    )
    points, claims = [], []
    for data in arg.data.split("+"):
        for family in arg.teacher.split("+"):
            arch = f"{family}_small" if data in SMALL and _has_stem(family) else family
            table = MAIN.get((data, _family(data, arch)), {})
            asked = _numbers("ipc", arg.ipc) if arg.ipc else list(table) or [10]
            for ipc in asked:
                cell = []
                for method in arg.methods.split("+"):
                    paper = _paper(arg, data, _family(data, arch), ipc, method)
                    if method == "rded" and table and not paper:
                        continue
                    name = f"{data}-ipc{ipc}-{arch}-{method}"
                    config = _config(arg, data, ipc, method, teacher=arch)
                    overrides = _main_overrides(arg, data, arch, ipc, method)
                    overrides |= _schedule(arg, method)
                    cell.append(Point(name, config, overrides, paper))
                points += cell
                for other in cell[1:]:
                    claims += _top1_claims(cell[0], other)
    title = f"The paper's table 1{_shortened(arg)}"
    return Sweep("main", title, tuple(points), tuple(claims))


def round_iterations(arg):
    """RI, the iterations between two joins: rounds become more or fewer, MI stays.

    The paper has its cost alone: 17.6 h at RI 500 and 18.8 h at RI 1000 on ImageNet-1K, IPC 50 (one RTX 4090).
    """
    arg = _parse(arg, data="imagenet", ipc=10, lengths="")
    values = _lengths(arg, smoke="1+2", digits="25+50+100", otherwise="250+500+1000+2000")
    points = [
        Point(f"ri{value}", _config(arg, arg.data, arg.ipc), {"synthesis.round_iterations": value})
        for value in values
    ]
    return Sweep("round_iterations", _title(arg, "RI"), tuple(points))


def iterations(arg):
    """MI, the iterations of the images that join first, at one RI."""
    arg = _parse(arg, data="imagenet", ipc=10, lengths="")
    values = _lengths(arg, smoke="2+4", digits="100+200+400", otherwise="1000+2000+4000")
    applies = (arg.data, arg.ipc, _family(arg.data, arg.teacher)) == ("imagenet", 10, "resnet18")
    points = []
    for value in values:
        paper = {}
        if applies and value in ITERATIONS and not arg.smoke:
            paper["teacher"] = Paper(ITERATIONS[value], "ablation of MI")
        overrides = {"synthesis.iterations": value}
        points.append(Point(f"mi{value}", _config(arg, arg.data, arg.ipc), overrides, paper))
    claims = [
        Claim(longer.name, shorter.name, "top1", "ablation of MI: longer is better")
        for shorter, longer in itertools.pairwise(points)
        if int(longer.overrides["synthesis.iterations"])
        > int(shorter.overrides["synthesis.iterations"])
    ]
    title = _title(arg, "MI")
    return Sweep("iterations", title, tuple(points), tuple(claims))


def init(arg):
    """EarlyLate from noise, on SRe2L and on CDA; and DELT beside CDA from real images."""
    arg = _parse(arg, data="imagenet", ipc=50)
    family = _family(arg.data, arg.teacher)
    pairs = (
        ("sre2l", "sre2l_early_late"),
        ("cda", "cda_early_late"),
        ("cda_real", "delt"),
    )
    points, claims = [], []
    for names in pairs:
        pair = []
        for name in names:
            method, _, variant = name.partition("_")
            overrides = {
                "": {},
                # Images of a class can only join a batch one after another if they share it.
                "early_late": {"synthesis.early_late": True, "synthesis.layout": "class"},
                "real": {"synthesis.initial": "real"},
            }[variant]
            config = _config(arg, arg.data, arg.ipc, method)
            pair.append(
                Point(name, config, overrides, _paper(arg, arg.data, family, arg.ipc, name))
            )
        points += pair
        claims += _top1_claims(pair[1], pair[0]) or [
            Claim(names[1], names[0], "top1", "ablation of EarlyLate and of the start")
        ]
    title = _title(arg, "EarlyLate and real images")
    return Sweep("init", title, tuple(points), tuple(claims))


def selection(arg):
    """Which real images to start from, with 500 iterations as in the paper, all from the start.

    The paper does not say which RI it takes there; one round is what RI 500 comes to.
    """
    arg = _parse(arg, data="imagenet", ipc=50, modes="min+medium+top")
    applies = (arg.data, arg.ipc, _family(arg.data, arg.teacher)) == ("imagenet", 50, "resnet18")
    short = {} if arg.smoke or arg.data == "digits" else {"synthesis.iterations": 500}
    points = []
    for mode in arg.modes.split("+"):
        paper = {}
        if applies and mode in SELECTION and not arg.smoke:
            paper["teacher"] = Paper(SELECTION[mode], "ablation of the selection")
        overrides = {"select.mode": mode, **short}
        points.append(Point(mode, _config(arg, arg.data, arg.ipc), overrides, paper))
    names = [point.name for point in points]
    claims = [
        Claim("medium", other, "top1", "ablation of the selection: medium is best")
        for other in names
        if "medium" in names and other != "medium"
    ]
    title = _title(arg, "Selection")
    return Sweep("selection", title, tuple(points), tuple(claims))


def students(arg):
    """One distilled set of each method, students of several architectures."""
    arg = _parse(arg, data="imagenet", ipc=10, students="", methods="delt+rded")
    default = "teacher+conv3" if arg.data == "digits" or arg.smoke else "+".join(STUDENTS)
    if arg.data in SMALL and arg.data != "digits" and not arg.smoke:
        default = "+".join(SMALL_STUDENTS)
    names = tuple((arg.students or default).split("+"))
    applies = (arg.data, arg.ipc, _family(arg.data, arg.teacher)) == ("imagenet", 10, "resnet18")
    chosen = arg.methods.split("+")
    points = []
    for method in chosen:
        paper = {}
        if applies and method in ("delt", "rded") and not arg.smoke:
            column = ("delt", "rded").index(method)
            paper = {
                name: Paper(STUDENTS[name][column], "table of students")
                for name in names
                if name in STUDENTS
            }
        overrides = {"evaluate.students": names}
        points.append(Point(method, _config(arg, arg.data, arg.ipc, method), overrides, paper))
    claims = [
        Claim("delt", other, "top1", "table of students: DELT above it for every student", name)
        for other in chosen
        if "delt" in chosen and other != "delt"
        for name in names
    ]
    title = _title(arg, "Students of other architectures")
    return Sweep("students", title, tuple(points), tuple(claims))


def continual(arg):
    """Classes arrive in steps; after each a fresh student of the images of all classes seen.

    The public protocol: Tiny-ImageNet, IPC 100, five steps, the order of NumPy's seed 0. The paper has ImageNet-1K in
    ten steps (`data=imagenet,steps=10`), as a figure, some ten points above G-VBSM.
    """
    arg = _parse(
        arg, data="tiny_imagenet", ipc=100, steps=5, schedule="", methods="delt+rded+random"
    )
    chosen = arg.methods.split("+")
    overrides = {"continual.steps": arg.steps, "evaluate.sets": ("distilled",)}
    points = [
        Point(method, _config(arg, arg.data, arg.ipc, method), overrides | _schedule(arg, method))
        for method in chosen
    ]
    claims = [
        Claim("delt", other, "top1", "the aim, here after the last step")
        for other in chosen
        if "delt" in chosen and other != "delt"
    ]
    title = f"{_title(arg, 'Continual learning')}, {arg.steps} steps"
    return Sweep("continual", title, tuple(points), tuple(claims))


SWEEPS = {
    "methods": methods,
    "main": main,
    "round_iterations": round_iterations,
    "iterations": iterations,
    "init": init,
    "selection": selection,
    "students": students,
    "continual": continual,
}


def _parse(arg, **own):
    """The arguments of one sweep and those that go to the configs of its points."""
    passed = {"source": "", "teacher": "", "weights": "", "statistics": ""}
    return base.parse_arg(arg, **(passed | {"published": False, "smoke": False} | own))


def _config(arg, data, ipc, method="", **more):
    """What follows `--config=`: the data set's file, and the arguments that were given."""
    given = {"ipc": ipc, "method": method}
    given |= {name: arg[name] for name in ("source", "teacher", "weights", "statistics")}
    given |= more
    words = [f"{name}={base.written(value)}" for name, value in given.items() if value != ""]
    words += [name for name in ("published", "smoke") if arg[name]]
    return f"configs/{data}.py:{','.join(words)}"


def _title(arg, subject):
    size = "smoke run" if arg.smoke else f"IPC {arg.ipc}"
    return f"{subject} on {arg.data}, {size}{_shortened(arg)}"


def _schedule(arg, method):
    """MI and RI as overrides of a method with a synthesis; nothing where the argument is not given."""
    if not arg.schedule or method in presets.WITHOUT_SYNTHESIS:
        return {}
    numbers = arg.schedule.split("/")
    if len(numbers) != 2 or not all(number.isdecimal() and int(number) for number in numbers):
        raise InputError(f"sweep argument schedule: got {arg.schedule!r}, expected MI/RI: 1000/125")
    names = ("synthesis.iterations", "synthesis.round_iterations")
    return dict(zip(names, map(int, numbers), strict=True))


def _shortened(arg):
    schedule = arg.get("schedule")
    return f", MI/RI {schedule}" if schedule else ""


def _has_stem(arch):
    return arch.startswith(("resnet", "mobilenet_v2"))


def _family(data, arch):
    """The paper's name of an architecture; the configs' default is ResNet-18 everywhere but on the digits."""
    default = "conv3_w32" if data == "digits" else "resnet18"
    return (arch or default).removesuffix("_small")


def _paper(arg, data, family, ipc, method):
    """Student -> the paper's number, of table 1 or of an ablation; empty where there is none, and for other schedules."""
    if arg.smoke or arg.get("schedule"):
        return {}
    cell = MAIN.get((data, family), {}).get(ipc)
    if cell and method in ("delt", "rded"):
        number = cell[("delt", "rded").index(method)]
        return {} if number is None else {"teacher": Paper(number, "table 1")}
    number = ABLATIONS.get((data, ipc, method)) if family == "resnet18" else None
    return {} if number is None else {"teacher": Paper(number, "ablation of EarlyLate")}


def _top1_claims(first, second):
    """The order that two points have in the paper; none where it lacks one of them."""
    claims = []
    for student in first.paper.keys() & second.paper.keys():
        ours, theirs = first.paper[student], second.paper[student]
        sources = " and ".join(dict.fromkeys((ours.source, theirs.source)))
        source = f"{sources}: {{}} against {{}}"
        if ours.top1 > theirs.top1:
            source = source.format(ours.top1, theirs.top1)
            claims.append(Claim(first.name, second.name, "top1", source, student))
        elif ours.top1 < theirs.top1:
            source = source.format(theirs.top1, ours.top1)
            claims.append(Claim(second.name, first.name, "top1", source, student))
    return claims


def _expectation(other):
    if other in ("selected", "random"):
        return "not in the paper: distilled images should be worth more than real ones"
    if other == "early_only":
        return "the aim of EarlyLate"
    return "the paper's order of methods"


def _cosine_source(other):
    if other in COSINES:
        return f"figure of diversity: {COSINES['delt']} against {COSINES[other]}"
    return "the aim of EarlyLate"


def _numbers(name, text):
    try:
        return [int(word) for word in text.split("+")]
    except ValueError:
        raise InputError(
            f"sweep argument {name}: got {text!r}, expected numbers joined by +"
        ) from None


def _lengths(arg, smoke, digits, otherwise):
    default = smoke if arg.smoke else digits if arg.data == "digits" else otherwise
    return _numbers("lengths", arg.lengths or default)


def _main_overrides(arg, data, arch, ipc, method):
    overrides = {}
    key = (data, _family(data, arch))
    if arg.smoke:
        return overrides
    if key in CONVNET_SIZES:
        overrides["data.image_size"] = CONVNET_SIZES[key]
    if ipc == 1 and method == "delt" and key in SINGLE_ITERATIONS:
        overrides["synthesis.iterations"] = SINGLE_ITERATIONS[key]
    return overrides
