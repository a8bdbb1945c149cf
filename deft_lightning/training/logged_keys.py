"""The table of all keys that a run logs to metrics.csv, W&B and TensorBoard, from which docs/logged_keys.md is written.

python -m deft_lightning.training.logged_keys > docs/logged_keys.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PLACEHOLDERS = {"<latent>": r"\d{2,}", "<group>": r"[1-9]\d*", "<factor>": ".+", "<part>": ".+"}
"""What a pattern may contain: the number of a latent (from 00) or of a group (from 1), the name of a factor, or of a
part of the loss (as in "train/<part>")."""

CALLBACKS = {
    "active_group": "stage_pressure",
    "learning_rate": "stage_pressure",
    "nmi": "nmi_matrix",
    "kl_decomposition": "kl_decomposition",
    "validation": "held_out",
    "score": "scores",
    "traversals": "traversals",
    "reconstructions": "traversals",
    "thresholds": "anneal_recorder",
}
"""The callback in conf/callbacks/ that logs the keys of a section; the module logs all others."""

EVERY = "every `trainer.log_every_n_steps` steps"
SWITCH = "before the first step of a stage"
STAGE = "end of a stage"
PICTURES = "W&B and TensorBoard"
SCORE = "end of every stage (`metrics.each_stage`) or only of the last (`metrics.at_end`)"
NMI = "every epoch (or every `callbacks.nmi_matrix.every_n_steps` steps) and end of a stage"
VALIDATION = "every epoch, shortened by the scale, and end of a stage"
KL = "end of a stage; with `callbacks.kl_decomposition.every=epoch` also every epoch"

DECOMPOSED = ("beta-TCVAE", "DEFT (TC)")
DIP = ("DIP-VAE-I", "DIP-VAE-II")


@dataclass(frozen=True)
class LoggedKey:
    """A key, or a family of keys whose pattern has placeholders.

    `objectives` are the labels of the objectives that log it, empty if all do. `labelled` keys need labelled data,
    `held_out` keys images that are held out. `likelihood` is the only one in conf/likelihood/ with which it is logged,
    empty if it is with all. `logger` names the only loggers that receive it, empty if all do. The unit of a picture is
    "image".
    """

    pattern: str
    meaning: str
    unit: str
    when: str
    objectives: tuple[str, ...] = ()
    labelled: bool = False
    logger: str = ""
    likelihood: str = ""
    held_out: bool = False

    @property
    def regex(self) -> str:
        """A regular expression that matches the whole of every key of the family."""
        text = re.escape(self.pattern)
        for placeholder, values in PLACEHOLDERS.items():
            text = text.replace(placeholder, values)
        return f"^{text}$"

    def matches(self, key: str) -> bool:
        """Whether `key` belongs to the family."""
        return re.match(self.regex, key) is not None

    @property
    def is_family(self) -> bool:
        """Whether the pattern has placeholders."""
        return "<" in self.pattern

    @property
    def is_image(self) -> bool:
        """Whether pictures are logged under the key."""
        return self.unit == "image"

    @property
    def callback(self) -> str:
        """The name in conf/callbacks/ of the callback that logs the key; empty for the module."""
        return CALLBACKS.get(self.pattern.split("/")[0], "")

    @property
    def runs(self) -> str:
        """The runs that log the key, for the table."""
        parts = [", ".join(self.objectives)] if self.objectives else []
        parts += ["labelled data"] if self.labelled else []
        parts += ["`data.held_out` above 0"] if self.held_out else []
        parts += [f"`likelihood={self.likelihood}`"] if self.likelihood else []
        parts += [f"{self.logger} only"] if self.logger else []
        return "; ".join(parts) or "all"


KEYS = (
    LoggedKey("step", "steps taken; for losses, before the update", "steps", "all", logger="metrics.csv"),
    LoggedKey("trainer/global_step", "the same; the x axis of every panel", "steps", "all", logger="W&B"),
    LoggedKey("epoch", "epochs completed", "epochs", EVERY),
    LoggedKey("stage", "stage of Algorithm 1, from 1", "", f"{EVERY}; {SWITCH}"),
    LoggedKey(
        "pressure",
        "beta, the weight of the KL term; in DEFT (TC) of the mutual information",
        "",
        f"{EVERY}; {SWITCH}",
        objectives=("beta-VAE", "FactorVAE", *DIP, *DECOMPOSED),
    ),
    LoggedKey("capacity", "C, the target of the KL", "nats", f"{EVERY}; {SWITCH}", objectives=("AnnealedVAE",)),
    LoggedKey("active_group", "number of the group that learns at the full rate, from 1", "", SWITCH),
    LoggedKey("learning_rate/group_<group>", "learning rate of the group", "", SWITCH),
    LoggedKey("train/loss", "total loss of a batch", "nats", EVERY),
    LoggedKey("train/reconstruction", "negative log likelihood, summed over pixels", "nats", EVERY),
    LoggedKey("train/sigma", "standard deviation of the pixels, learnt", "", EVERY, likelihood="gaussian_learnt"),
    LoggedKey("train/kl", "KL to the prior, summed over latents, before weighting", "nats", EVERY),
    LoggedKey("train/kl/latent_<latent>", "KL of one latent", "nats", EVERY),
    LoggedKey("train/mi", "index-code mutual information, estimated on the batch", "nats", EVERY, DECOMPOSED),
    LoggedKey(
        "train/tc",
        "total correlation, estimated on the batch; in FactorVAE from the discriminator",
        "nats",
        EVERY,
        ("FactorVAE", *DECOMPOSED),
    ),
    LoggedKey("train/dwkl", "dimension-wise KL, estimated on the batch", "nats", EVERY, DECOMPOSED),
    LoggedKey("train/dip_off_diagonal", "sum of the squared covariances of different latents", "", EVERY, DIP),
    LoggedKey("train/dip_diagonal", "sum of the squared differences of the variances from 1", "", EVERY, DIP),
    LoggedKey("train/discriminator_loss", "cross entropy of the discriminator", "nats", EVERY, ("FactorVAE",)),
    LoggedKey("train/discriminator_accuracy", "its accuracy; 0.5 is chance", "0 to 1", EVERY, ("FactorVAE",)),
    LoggedKey("validation/<part>", "`train/<part>` on held-out images", "nats", VALIDATION, held_out=True),
    LoggedKey("kl_decomposition/kl", "KL on the evaluation sample, summed over latents", "nats", KL),
    LoggedKey("kl_decomposition/mi", "index-code mutual information, the first part of that KL", "nats", KL),
    LoggedKey("kl_decomposition/tc", "total correlation, the second part", "nats", KL),
    LoggedKey("kl_decomposition/dwkl", "dimension-wise KL, the third part", "nats", KL),
    LoggedKey("nmi/mig", "Mutual Information Gap (Eq. 6)", "0 to 1", NMI, labelled=True),
    LoggedKey("nmi/max1/<factor>", "largest NMI of the factor with a latent (Eq. 5)", "0 to 1", NMI, labelled=True),
    LoggedKey("nmi/max2/<factor>", "second largest NMI of the factor (Eq. 5)", "0 to 1", NMI, labelled=True),
    LoggedKey("nmi/latent_<latent>/<factor>", "NMI of latent and factor", "0 to 1", NMI, labelled=True),
    LoggedKey("nmi/matrix", "heat map of the whole matrix", "image", NMI, labelled=True, logger=PICTURES),
    LoggedKey("traversals", "one row for each latent, in order of KL (Fig. 14)", "image", STAGE, logger=PICTURES),
    LoggedKey("reconstructions", "images above their reconstructions", "image", STAGE, logger=PICTURES),
    LoggedKey(
        "thresholds/anneal", "KL against the falling pressure (Fig. 3)", "image", "end of the run", logger=PICTURES
    ),
    LoggedKey("score/reconstruction", "reconstruction error, decoded from the mean codes", "nats", STAGE),
    LoggedKey("score/kl", "KL, summed over latents", "nats", STAGE),
    LoggedKey("score/mig", "Mutual Information Gap (Eq. 6)", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/modularity", "whether each latent encodes one factor", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/explicitness", "area under the ROC curve of linear classifiers", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/dci_disentanglement", "whether each latent encodes one factor", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/dci_completeness", "whether one latent encodes each factor", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/dci_informativeness", "accuracy of boosted trees on test codes", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/sap", "Separated Attribute Predictability", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/factor_vae", "FactorVAE score", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/beta_vae", "beta-VAE score", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/irs", "Interventional Robustness Score", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/infomec_modularity", "InfoM of InfoMEC", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/infomec_compactness", "InfoC of InfoMEC", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/infomec_explicitness", "InfoE of InfoMEC", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/active_units", "number of latents whose mean varies", "latents", SCORE),
    LoggedKey("score/total_correlation", "total correlation of a Gaussian fit to the mean codes", "nats", SCORE),
)

HEADER = """\
# Logged keys

What a run logs to `metrics.csv` and, where chosen, to Weights & Biases or TensorBoard. `<latent>` is the number of a
latent, from 00; `<group>` the number of an encoder group, from 1; `<factor>` the name of a factor; `<part>` what
follows `train/`. The column "by" names the callback that logs the key, or the module. This page is written by
`python -m deft_lightning.training.logged_keys > docs/logged_keys.md`; a test compares it with what runs log.

"""


def find(key: str) -> LoggedKey | None:
    """The row of the table to which `key` belongs."""
    return next((row for row in KEYS if row.matches(key)), None)


def markdown() -> str:
    """The page docs/logged_keys.md."""
    lines = ["| key | meaning | unit | when | by | runs |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{k.pattern}` | {k.meaning} | {k.unit} | {k.when} | {k.callback or 'module'} | {k.runs} |" for k in KEYS
    ]
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
