"""The defaults of every option: the paper's settings, and what each option means.

The configs of the command line (configs/base.py) and the Python API (`delt_jax.api`) begin with
them. A data set's config overrides a few lines; derived values follow through references.
"""

import ml_collections
from ml_collections.config_dict import placeholder


def get_base() -> ml_collections.ConfigDict:
    """The published settings of DELT, without a data set."""
    c = ml_collections.ConfigDict()
    c.method = "delt"  # a name of configs/presets.py; its settings are applied after all options are read, and any option given wins over them
    c.method_changes = ()  # filled in, never given: the method's own options that were set to something else, as "select.mode=top"
    c.seed = 0  # of every random stream but the students' (evaluate.seeds)
    c.ipc = 50  # images per class
    c.deterministic = (
        False  # True: on a GPU the same numbers from every run, slower; see docs/reliability.md
    )
    c.checkpoint_minutes = 3.0  # between two saves of what any stage has under way: at most this much is lost by a kill

    c.data = data = ml_collections.ConfigDict()
    data.name = placeholder(str)  # a data set of delt_jax/data/specs.py
    data.source = ""  # "" the spec's own | folder with train/ and test/ | TRAINDIR:TESTDIR | folder of Parquet files | file.npz | tfds:NAME[:DIR]
    data.image_size = 0  # side in pixels; 0: the spec's
    data.images_per_class = 0  # of each split, evenly spaced; 0: all
    data.strict = False  # unreadable images: False: left out, counted, named in unreadable.csv; True: an error
    data.workers = -1  # processes that decode; 0: threads of this one; -1: all cores but one, for large splits on more than 4 cores

    c.teacher = teacher = ml_collections.ConfigDict()
    teacher.arch = "resnet18"  # a name of delt_jax/models/registry.py; needs BatchNorm
    teacher.weights = ""  # file | https://...#sha256=... | "torchvision" or "timm", with a version as "torchvision:V2" | teacher/ of another run; "": trained here
    teacher.weights_key = ""  # which of several sets of weights in the file, as "state_dict_ema", or a prefix of keys; "": the one there is, or the one that is no average
    teacher.classes = ""  # what the outputs of the weights are, where not the data set's classes in order: "imagenet1k" or another data set | file of names | "bird,cat,dog" | a row for each class, "7,4"
    teacher.statistics = "auto"  # of its inputs: "auto" (those that come with the weights, else the data set's) | "dataset" | "imagenet" | "mean/std", as "0.5/0.5" or "0.5,0.4,0.3/0.2,0.2,0.2"
    teacher.squeeze = squeeze = ml_collections.ConfigDict()
    squeeze.epochs = 60  # passes over the training images
    squeeze.batch_size = 128  # images of a step
    squeeze.learning_rate = 0.1  # peak of SGD with Nesterov momentum; cosine to zero
    squeeze.momentum = 0.9  # of SGD
    squeeze.weight_decay = 5e-4  # of SGD, on parameters of rank > 1
    squeeze.label_smoothing = 0.1  # share of the target spread over all classes
    squeeze.warmup_epochs = 2.0  # linear warm-up before the cosine
    squeeze.crop = (
        "pad"  # "pad": shifts by up to squeeze.pad pixels | "resized": random resized crops
    )
    squeeze.pad = 4  # pixels of padding before the random crop
    squeeze.min_scale = 0.25  # smallest share of the area of a random resized crop
    squeeze.stored_side = (
        0  # side of the squares that resized crops are cut from; 0: data.image_size
    )
    squeeze.flip = True  # random horizontal flip (not for digits)
    squeeze.cutmix = 1.0  # both parameters of lambda's Beta
    squeeze.cutmix_probability = 0.0  # share of the batches that CutMix mixes
    squeeze.average_decay = (
        0.0  # of the moving average (EMA) of the weights, which is then the teacher; 0: none
    )
    squeeze.compute_dtype = (
        "auto"  # of activations: "float32" | "bfloat16" | "auto": bfloat16 on accelerators
    )

    c.select = select = ml_collections.ConfigDict()
    select.mode = "medium"  # "medium" | "top" (easy) | "min" (hard) | "random"
    select.crops = (
        0  # 0: whole images; n: of each image the teacher's best of n random square crops
    )
    select.factor = (
        1  # f: initial images are mosaics of f x f images or crops of image_size / f px; 1: of one
    )
    select.images_per_class = 0  # images of each class that are looked at, drawn at random; 0: all
    select.ranking = ""  # a ranking.csv to reuse instead of scoring
    select.statistics = (
        "teacher"  # normalisation: "teacher" | "dataset" | "imagenet" (published quirk)
    )
    select.batch_size = 256  # images of a forward pass

    c.synthesis = synthesis = ml_collections.ConfigDict()
    synthesis.initial = "real"  # what images begin as: "real" (the selected ones) | "noise" (normal, mean 0, std 1, normalised)
    synthesis.early_late = True  # images of a class join round by round; False: all from the start
    synthesis.iterations = (
        4000  # of the images that join first (the paper's MI); 0: none, they stay as selected
    )
    synthesis.round_iterations = 500  # between two joins (RI); must divide iterations
    synthesis.min_iterations = 0  # >0: each class draws its number of rounds, at least this long
    synthesis.departed_drift = (
        True  # published: momentum moves images of a class that is done; else frozen
    )
    synthesis.class_batch = 100  # slots whose BatchNorm statistics are matched together
    synthesis.layout = "class"  # of class batches: "class" (all images of some classes) | "across" (one of each class)
    synthesis.learning_rate = (
        0.25  # Adam's peak; cosine to zero over the run, the same for all slots
    )
    synthesis.beta1 = 0.5  # Adam
    synthesis.beta2 = 0.9  # Adam
    synthesis.epsilon = 1e-8  # Adam
    synthesis.fresh_bias_correction = (
        False  # False: Adam counts the batch's steps (published); True: the slot's
    )
    synthesis.bn_weight = 0.01  # weight of BatchNorm matching against cross-entropy
    synthesis.first_bn_multiplier = 10.0  # further weight of the network's first BatchNorm
    synthesis.crop_curriculum = "cosine"  # smallest crop falls from 1: "cosine" | "linear" | "step"
    synthesis.milestone = 1.0  # share of the run after which the curriculum has ended; 0: none
    synthesis.min_crop = 0.08  # smallest share of the area after the curriculum
    synthesis.max_crop = 1.0  # largest share of the area
    synthesis.flip = 0.5  # chance of a horizontal flip
    synthesis.jitter = 0  # largest roll in pixels on both axes
    synthesis.view_per_image = (
        False  # False: one crop and flip for the batch (published); True: per image
    )
    synthesis.statistics = "teacher"  # normalisation: "teacher" | "dataset" | "imagenet"
    synthesis.compute_dtype = "float32"  # of activations: "float32" | "bfloat16"
    synthesis.class_batches_per_device = (
        0  # class batches side by side on a device; 0: found by trying (1 on CPU)
    )
    synthesis.sliced = True  # run each round on the joined prefix; False: one program, masked
    synthesis.steps_per_call = 0  # iterations of a device call; 0: 1 on CPU, 100 elsewhere
    synthesis.log_every = 50  # iterations between two lines of metrics.jsonl and checks of the loss

    c.distilled = distilled = ml_collections.ConfigDict()
    distilled.format = "jpg"  # "jpg" | "png"
    distilled.quality = 75  # of JPEG (published: Pillow's default)
    distilled.rounding = "truncate"  # "truncate" to uint8 (published) | "nearest"
    distilled.naming = "reference"  # "reference": new000/class000_id000 | "class": class names

    c.evaluate = evaluate = ml_collections.ConfigDict()
    evaluate.students = ("teacher",)  # architectures; "teacher": the teacher's
    evaluate.sets = ("distilled", "selected", "random")  # what students train on
    evaluate.labels = (
        "soft",
    )  # what they learn, a student for each: "soft": the teacher's, online | "hard": the classes | "stored": the teacher's, made once by relabel for all students, without RandAugment; of the distilled set alone
    evaluate.seeds = (3407, 4663, 2897)  # one student each
    evaluate.seeds_at_once = (
        0  # students in one program; 0: on accelerators all of a set that fit into memory, 1 on CPU
    )
    evaluate.real_images = 200  # training images per class, at most, that diversity and realism are measured against; 0: none
    evaluate.epochs = 300  # passes over the set
    evaluate.batch_size = 0  # 0: by IPC and classes, as published
    evaluate.optimizer = "adamw"  # "adamw" (published) | "sgd": with momentum, not Nesterov's
    evaluate.momentum = 0.9  # of SGD
    evaluate.learning_rate = 0.0  # 0: AdamW's by student, as published; SGD's .1
    evaluate.weight_decay = -1.0  # on parameters of rank > 1; -1: AdamW's .01 (published), SGD's 5e-4, which is in the gradient
    evaluate.average_decay = (
        0.0  # of the moving average (EMA) of weights and statistics, which is then tested; 0: none
    )
    evaluate.temperature = 20.0  # of teacher and student alike
    evaluate.cosine_stretch = 2.0  # published quirk: the cosine ends at half the rate; 1: at zero
    evaluate.augment = True  # False: images as they are, whatever the next seven say
    evaluate.randaugment_magnitude = 6.0  # of 10
    evaluate.randaugment_ops = 2  # ops an image; 0: no RandAugment
    evaluate.randaugment_std = 1.0  # deviation of the magnitude
    evaluate.min_scale = 0.25  # smallest share of the area of a random resized crop
    evaluate.flip = 0.5  # chance of a horizontal flip
    evaluate.cutmix = 1.0  # both parameters of lambda's Beta; 0: no CutMix
    evaluate.mixup = 0.0  # the same of MixUp, which needs cutmix = 0; 0: no MixUp
    evaluate.double_bn_update = True  # published quirk: running statistics are updated twice a step
    evaluate.statistics = (
        "teacher"  # normalisation of the student: "teacher" | "dataset" | "imagenet"
    )
    evaluate.batch_norm = "synchronised"  # over the devices that share a batch: "synchronised" (the result of one) | "per_device"
    evaluate.compute_dtype = "float32"  # of activations: "float32" | "bfloat16" | "auto"
    evaluate.eval_every = 10  # epochs between two tests; the last epoch is always tested

    c.labels = labels = ml_collections.ConfigDict()  # stored ones: evaluate.labels="('stored',)"
    labels.epochs = 0  # that are stored; students go through them again and again; 0: as many as evaluate.epochs
    labels.top_k = 0  # largest logits that are kept of an image, the rest as one number; 0: all
    labels.dtype = "float16"  # of the logits: "float16" | "int8"
    labels.order_seed = 42  # of the order of the images, drawn as torch's RandomSampler does; 42: the one that SRe2L's loader expects

    c.continual = continual = (
        ml_collections.ConfigDict()
    )  # students, sets, seeds and protocol are those of evaluate
    continual.steps = 0  # parts in which the classes arrive, a fresh student after each; must divide them; 0: no continual learning
    continual.order_seed = 0  # of the order in which they arrive
    continual.argmax = "all"  # test images may be taken for "all" classes | for those "seen"

    c.fairness = fairness = (
        ml_collections.ConfigDict()
    )  # DD-Ranking's scores: --stages=...,fairness
    fairness.learning_rates = (0.001, 0.005, 0.01, 0.05, 0.1)  # tried for hard labels
    fairness.full_data_top1 = 0.0  # percent of a student of all real images, hard labels; 0: the teacher's, if it is of the student's architecture

    c.export = export = ml_collections.ConfigDict()
    export.formats = ()  # of delt_jax/export/formats.py: "image_folder" | "tensors" | "safetensors" | "npz" | "webdataset" | "huggingface" | "array_record" | "labels" | "fkd"; (): distilled/ is verified, no more
    export.directory = ""  # where the folders of the formats go; "": <workdir>/export
    export.encoding = ""  # of image files: "png" | "jpg" | "": as in distilled/
    export.quality = 95  # of files that become JPEG
    export.naming = "class"  # of class folders: "class" names | "reference": new000
    export.statistics = "teacher"  # that tensors are normalised with: "teacher" (as the images were optimised) | "dataset" | "imagenet" | "mean/std"
    export.labels = "hard"  # of tensors: "hard": the classes | "soft": the teacher's logits of the images as they are
    export.shard_megabytes = 500  # after which a shard ends

    c.report = report = ml_collections.ConfigDict()
    report.classes = 20  # at most so many classes are shown
    return c
