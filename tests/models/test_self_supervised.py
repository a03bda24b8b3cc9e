"""Self-supervised checkpoints in generated files of each published layout."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tutelage import _vision
from tutelage.models.self_supervised import load_self_supervised


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
