"""The field's MobileNetV2 for small images in torch, for the parity tests."""

import torch

# (blocks, inputs, outputs, stride of the first) of stages 2 to 6
STAGES = ((2, 16, 24, 2), (3, 24, 32, 2), (4, 32, 64, 2), (3, 64, 96, 1), (3, 96, 160, 1))


def conv_norm(inputs: int, outputs: int, side: int = 1, **arguments) -> list[torch.nn.Module]:
    conv = torch.nn.Conv2d(inputs, outputs, side, **arguments)
    return [conv, torch.nn.BatchNorm2d(outputs)]


class TorchLinearBottleneck(torch.nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1, expansion: int = 6):
        super().__init__()
        self.adds = stride == 1 and inputs == outputs
        wide = expansion * inputs
        depthwise = {"stride": stride, "padding": 1, "groups": wide}
        self.residual = torch.nn.Sequential(
            *conv_norm(inputs, wide),
            torch.nn.ReLU6(),
            *conv_norm(wide, wide, 3, **depthwise),
            torch.nn.ReLU6(),
            *conv_norm(wide, outputs),
        )

    def forward(self, x):
        y = self.residual(x)
        return x + y if self.adds else y


class TorchMobileNetV2Small(torch.nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.pre = torch.nn.Sequential(*conv_norm(3, 32, padding=1), torch.nn.ReLU6())
        self.stage1 = TorchLinearBottleneck(32, 16, expansion=1)
        for stage, (blocks, inputs, outputs, stride) in enumerate(STAGES, start=2):
            first = TorchLinearBottleneck(inputs, outputs, stride)
            others = (TorchLinearBottleneck(outputs, outputs) for _ in range(blocks - 1))
            setattr(self, f"stage{stage}", torch.nn.Sequential(first, *others))
        self.stage7 = TorchLinearBottleneck(160, 320)
        self.conv1 = torch.nn.Sequential(*conv_norm(320, 1280), torch.nn.ReLU6())
        self.conv2 = torch.nn.Conv2d(1280, num_classes, 1)

    def forward(self, x):
        x = self.pre(x)
        for stage in range(1, 8):
            x = getattr(self, f"stage{stage}")(x)
        return self.conv2(self.conv1(x).mean((2, 3), keepdim=True)).flatten(1)
