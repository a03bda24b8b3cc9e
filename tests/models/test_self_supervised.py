"""Self-supervised checkpoints in generated files of each published layout."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tutelage import _vision
from tutelage.models.self_supervised import load_self_supervised
from tutelage.models.simclr import SimCLRResNet


def resnet(seed: int, classes: int = 5) -> nn.Module:
    torch.manual_seed(seed)
    return _vision.timm().create_model("resnet26", num_classes=classes)  # ResNet-50's blocks, and fewer of them


SOURCE = resnet(1)
BODY = {name: value for name, value in SOURCE.state_dict().items() if not name.startswith("fc.")}


def simclr_v2(name: str) -> str:
    """torchvision's name in the conversion's: the inverse of what is tested, by hand."""
    name = re.sub(r"^conv1\.", "net.0.0.", name)
    name = re.sub(r"^bn1\.", "net.0.1.0.", name)
    name = re.sub(r"^layer(\d)\.(\d+)\.", r"net.\1.blocks.\2.", name)
    name = name.replace("downsample.0.", "projection.shortcut.").replace("downsample.1.", "projection.bn.0.")
    for k in range(3):
        name = name.replace(f".conv{k + 1}.", f".net.{2 * k}.").replace(f".bn{k + 1}.", f".net.{2 * k + 1}.0.")
    return name


def children(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"{['conv1', 'bn1', '', '', 'layer1', 'layer2', 'layer3', 'layer4'].index(first)}.{rest}"


def prefixed(prefix: str, **more: Tensor) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in BODY.items()} | more


FILES = {
    "moco_v2": {
        "epoch": 200,
        "state_dict": prefixed("module.encoder_q.") | {f"module.encoder_k.{n}": 0 * v for n, v in BODY.items()},
    },
    "simclr": {"state_dict": prefixed("module.encoder.")},
    "simclr_v2": {
        "resnet": {simclr_v2(name): value for name, value in BODY.items()} | {"fc.weight": torch.zeros(1000, 2048)},
        "head": {"layers.0.weight": torch.zeros(8, 8)},
    },
    "swav": prefixed("module.", **{"module.prototypes.weight": torch.zeros(30, 8)}),
    "byol": {"online_network": {f"encoder.{children(name)}": value for name, value in BODY.items()}},
    "plain": prefixed(""),
}


@pytest.mark.parametrize("layout", FILES)
def test_every_layout_gives_the_same_encoder_and_leaves_the_head(layout: str, tmp_path: Path):
    path = tmp_path / "checkpoint.pth"
    torch.save(FILES[layout], path)
    model = resnet(2)
    head = model.fc.weight.detach().clone()  # type: ignore[union-attr,operator]
    found = load_self_supervised(model, path)
    assert found == ("simclr" if layout == "byol" else layout)  # a name says little: what counts is what fits
    assert all(torch.equal(model.state_dict()[name], value) for name, value in BODY.items() if "tracked" not in name)
    assert torch.equal(model.fc.weight, head)  # type: ignore[union-attr]


def conversion(name: str) -> str:
    """The name of a tensor of `SimCLRResNet` with selective kernels in the conversion of the published weights, by hand."""
    for place, layer in enumerate(("conv1.0.", "conv1.1.", "conv1.3.", "conv1.4.", "conv1.6.", "bn1.")):
        if name.startswith(layer):
            return f"net.0.{place}." + ("0." if place % 2 else "") + name.removeprefix(layer)
    name = re.sub(r"^layer(\d)\.(\d+)\.", r"net.\1.blocks.\2.", name)
    for ours, theirs in {
        "downsample.1.": "projection.shortcut.2.",
        "downsample.2.": "projection.bn.0.",
        "conv2.conv.": "net.2.main_conv.0.",
        "conv2.norm.": "net.2.main_conv.1.0.",
        "conv2.mix1.": "net.2.mixing_conv.0.",
        "conv2.mix_norm.": "net.2.mixing_conv.1.0.",
        "conv2.mix2.": "net.2.mixing_conv.2.",
        "conv1.": "net.0.",
        "bn1.": "net.1.0.",
        "conv3.": "net.3.",
        "bn3.": "net.4.0.",
    }.items():
        name = name.replace("." + ours, "." + theirs)
    return name


@pytest.mark.parametrize(("selective", "rename"), [(True, conversion), (False, simclr_v2)], ids=["sk1", "sk0"])
def test_a_wide_checkpoint_of_simclr_v2(selective: bool, rename: Callable[[str], str], tmp_path: Path):
    torch.manual_seed(0)
    model, source = (SimCLRResNet((1, 1, 1, 1), 2, selective, num_classes=classes) for classes in (5, 1000))
    body = {name: value for name, value in source.state_dict().items() if not name.startswith("fc.")}
    saved = {rename(name): value for name, value in body.items()} | {"fc.weight": torch.zeros(1000, 4096)}
    assert len(saved) == len(body) + 1
    torch.save({"resnet": saved, "head": {"layers.0.weight": torch.zeros(8, 8)}}, tmp_path / "r50_2x.pth")
    assert load_self_supervised(model, tmp_path / "r50_2x.pth") == "simclr_v2"
    assert all(torch.equal(model.state_dict()[name], value) for name, value in body.items() if "tracked" not in name)
    with pytest.raises(ValueError, match="another architecture"):  # of other kernels
        load_self_supervised(SimCLRResNet((1, 1, 1, 1), 2, not selective), tmp_path / "r50_2x.pth")


def test_a_byol_checkpoint_by_its_prefix_and_as_safetensors(tmp_path: Path):
    save_file(prefixed("online_encoder.net."), tmp_path / "byol.safetensors")
    assert load_self_supervised(resnet(2), tmp_path / "byol.safetensors") == "byol"


def test_a_byol_checkpoint_of_a_cut_network(tmp_path: Path):
    online = {f"encoder.{children(name)}": value for name, value in BODY.items()}
    target = {name: 0 * value for name, value in online.items()}
    torch.save({"online_network_state_dict": online, "target_network_state_dict": target}, tmp_path / "model.pth")
    model = resnet(2)
    load_self_supervised(model, tmp_path / "model.pth")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in BODY.items() if "tracked" not in name)


def test_what_is_no_such_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_self_supervised(resnet(2), tmp_path / "none.pth")
    torch.save({"state_dict": {"encoder.conv1.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"only 0 of the encoder's .* another architecture"):
        load_self_supervised(resnet(2), tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds list"):
        load_self_supervised(resnet(2), tmp_path / "list.pth")
    (tmp_path / "code.pth").write_bytes(b"\x80\x04cos\nsystem\n(X\x04\x00\x00\x00true\x94tR.")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        load_self_supervised(resnet(2), tmp_path / "code.pth")
