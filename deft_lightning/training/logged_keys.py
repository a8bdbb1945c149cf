"""Every key that a run logs, to metrics.csv and to W&B: the one table of them, kept in docs/logged_keys.md as well.

python -m deft_lightning.training.logged_keys > docs/logged_keys.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PLACEHOLDERS = {"<latent>": r"\d{2,}", "<group>": r"[1-9]\d*", "<factor>": ".+"}
"""What a pattern may hold: the number of a latent from 00, that of a group from 1, the name of a factor."""

CALLBACKS = {
    "active_group": "stage_pressure",
    "learning_rate": "stage_pressure",
    "nmi": "nmi_matrix",
    "kl_decomposition": "kl_decomposition",
    "score": "scores",
    "traversals": "traversals",
    "reconstructions": "traversals",
    "thresholds": "anneal_recorder",
}
"""Which of conf/callbacks/ logs the keys of a section; the module logs all others."""

EVERY = "every `trainer.log_every_n_steps` steps"
SWITCH = "before the first step of a stage"
STAGE = "end of a stage"
SCORE = "end of a stage (`metrics.each_stage`) or of the last alone (`metrics.at_end`)"
NMI = "every epoch (or `callbacks.nmi_matrix.every_n_steps` steps) and end of a stage"
KL = "end of a stage, and every epoch with `callbacks.kl_decomposition.every=epoch`"

DECOMPOSED = ("beta-TCVAE", "DEFT (TC)")
DIP = ("DIP-VAE-I", "DIP-VAE-II")


@dataclass(frozen=True)
class LoggedKey:
    """A key, or a family of keys with placeholders.

    `objectives` are the labels of those that log it, empty where all do; `labelled` keys need labelled data; `logger`
    is the only one that takes it, empty where all do. The unit of a picture is "image".
    """

    pattern: str
    meaning: str
    unit: str
    when: str
    objectives: tuple[str, ...] = ()
    labelled: bool = False
    logger: str = ""

    @property
    def regex(self) -> str:
        """A regular expression that matches the keys of the family, whole."""
        text = re.escape(self.pattern)
        for placeholder, values in PLACEHOLDERS.items():
            text = text.replace(placeholder, values)
        return f"^{text}$"

    def matches(self, key: str) -> bool:
        """Whether `key` is one of the family."""
        return re.match(self.regex, key) is not None

    @property
    def is_family(self) -> bool:
        """Whether the pattern has placeholders."""
        return "<" in self.pattern

    @property
    def is_image(self) -> bool:
        """Whether pictures are logged under it."""
        return self.unit == "image"

    @property
    def callback(self) -> str:
        """The callback, as conf/callbacks/ names it, that logs it; empty for the module itself."""
        return CALLBACKS.get(self.pattern.split("/")[0], "")

    @property
    def runs(self) -> str:
        """Which runs log it, for the table."""
        parts = [", ".join(self.objectives)] if self.objectives else []
        parts += ["labelled data"] if self.labelled else []
        parts += [f"{self.logger} only"] if self.logger else []
        return "; ".join(parts) or "all"


KEYS = (
    LoggedKey("step", "steps taken; a loss bears the number before its own step", "steps", "all", logger="metrics.csv"),
    LoggedKey("trainer/global_step", "the same, the x axis of every panel", "steps", "all", logger="W&B"),
    LoggedKey("epoch", "passes over the data that are complete", "epochs", EVERY),
    LoggedKey("stage", "stage of Algorithm 1, from 1", "", f"{EVERY}; {SWITCH}"),
    LoggedKey(
        "pressure",
        "weight of the KL term; of MI in DEFT (TC)",
        "",
        f"{EVERY}; {SWITCH}",
        objectives=("beta-VAE", "FactorVAE", *DIP, *DECOMPOSED),
    ),
    LoggedKey("capacity", "C, which the KL is held at", "nats", f"{EVERY}; {SWITCH}", objectives=("AnnealedVAE",)),
    LoggedKey("active_group", "the group that learns at the full rate, from 1", "", SWITCH),
    LoggedKey("learning_rate/group_<group>", "Adam's learning rate of the group", "", SWITCH),
    LoggedKey("train/loss", "what is minimised, of one batch", "nats", EVERY),
    LoggedKey("train/reconstruction", "Bernoulli negative log likelihood, summed over pixels", "nats", EVERY),
    LoggedKey("train/kl", "KL to the prior, summed over latents, not weighted", "nats", EVERY),
    LoggedKey("train/kl/latent_<latent>", "KL of one latent", "nats", EVERY),
    LoggedKey("train/mi", "index-code mutual information, estimated on the batch", "nats", EVERY, DECOMPOSED),
    LoggedKey(
        "train/tc",
        "total correlation, estimated on the batch; in FactorVAE by the discriminator",
        "nats",
        EVERY,
        ("FactorVAE", *DECOMPOSED),
    ),
    LoggedKey("train/dwkl", "dimension-wise KL, estimated on the batch", "nats", EVERY, DECOMPOSED),
    LoggedKey("train/dip_off_diagonal", "sum of the squared covariances of different latents", "", EVERY, DIP),
    LoggedKey("train/dip_diagonal", "sum of the squared distances of variances from 1", "", EVERY, DIP),
    LoggedKey("train/discriminator_loss", "cross entropy of the discriminator", "nats", EVERY, ("FactorVAE",)),
    LoggedKey("train/discriminator_accuracy", "its accuracy; 0.5 is chance", "0 to 1", EVERY, ("FactorVAE",)),
    LoggedKey("kl_decomposition/kl", "KL of a fixed sample, summed over latents", "nats", KL),
    LoggedKey("kl_decomposition/mi", "its part that is index-code mutual information", "nats", KL),
    LoggedKey("kl_decomposition/tc", "its part that is total correlation", "nats", KL),
    LoggedKey("kl_decomposition/dwkl", "its part that is dimension-wise KL", "nats", KL),
    LoggedKey("nmi/mig", "MIG over training", "0 to 1", NMI, labelled=True),
    LoggedKey("nmi/max1/<factor>", "largest NMI of the factor with a latent (Eq. 5)", "0 to 1", NMI, labelled=True),
    LoggedKey("nmi/max2/<factor>", "second largest", "0 to 1", NMI, labelled=True),
    LoggedKey("nmi/latent_<latent>/<factor>", "NMI of latent and factor", "0 to 1", NMI, labelled=True),
    LoggedKey("nmi/matrix", "heat map of all of them", "image", NMI, labelled=True, logger="W&B"),
    LoggedKey("traversals", "one row a latent, most informative first (Fig. 14)", "image", STAGE, logger="W&B"),
    LoggedKey("reconstructions", "images above what the means decode to", "image", STAGE, logger="W&B"),
    LoggedKey("thresholds/anneal", "KL against the falling pressure (Fig. 3)", "image", "end of the run", logger="W&B"),
    LoggedKey("score/reconstruction", "reconstruction error of the means", "nats", STAGE),
    LoggedKey("score/kl", "KL, summed over latents", "nats", STAGE),
    LoggedKey("score/mig", "Mutual Information Gap (Eq. 6)", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/modularity", "does a latent tell about one factor alone?", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/explicitness", "can a linear classifier read the factors?", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/dci_disentanglement", "does a latent serve one factor?", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/dci_completeness", "does one latent serve a factor?", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/dci_informativeness", "accuracy of boosted trees on test codes", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/sap", "Separated Attribute Predictability", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/factor_vae", "FactorVAE score", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/beta_vae", "beta-VAE score", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/irs", "Interventional Robustness Score", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/infomec_modularity", "InfoM", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/infomec_compactness", "InfoC", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/infomec_explicitness", "InfoE", "0 to 1", SCORE, labelled=True),
    LoggedKey("score/active_units", "latents whose mean varies", "latents", SCORE),
    LoggedKey("score/total_correlation", "total correlation of a Gaussian fit to the mean codes", "nats", SCORE),
)

HEADER = """\
# Logged keys

What a run logs to `metrics.csv` and, where it is on, to Weights & Biases. `<latent>` is the number of a latent from
00, `<group>` that of a group from 1, `<factor>` the name of a factor. The callback
that logs a key, or the module itself, stands under "by". Written by
`python -m deft_lightning.training.logged_keys > docs/logged_keys.md`; a test holds it to what runs log.

"""


def find(key: str) -> LoggedKey | None:
    """The row of the table that `key` belongs to."""
    return next((row for row in KEYS if row.matches(key)), None)


def markdown() -> str:
    """The table as a page."""
    lines = ["| key | meaning | unit | when | by | runs |", "|---|---|---|---|---|---|"]
    lines += [
        f"| `{k.pattern}` | {k.meaning} | {k.unit} | {k.when} | {k.callback or 'module'} | {k.runs} |" for k in KEYS
    ]
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
