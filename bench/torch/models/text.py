"""CLIP's text encoder and T5's encoder: transformers' models by names, config and arithmetic."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import attend, heads_of
from .transformers import RMSNorm


class CLIPAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (heads_of(to(x), self.heads) for to in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attend(q, k, v, is_causal=True))


class CLIPMLP(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        return self.fc2(hidden * torch.sigmoid(1.702 * hidden))


class CLIPBlock(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.self_attn = CLIPAttention(width, config["num_attention_heads"])
        self.mlp = CLIPMLP(width, config["intermediate_size"])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPEmbeddings(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.token_embedding = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.position_embedding = nn.Embedding(config["max_position_embeddings"], config["hidden_size"])

    def forward(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]


class Layers(nn.Module):
    def __init__(self, layers: list[nn.Module]):
        super().__init__()
        self.layers = nn.ModuleList(layers)


class CLIPText(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.embeddings = CLIPEmbeddings(config)
        self.encoder = Layers([CLIPBlock(config) for _ in range(config["num_hidden_layers"])])
        self.final_layer_norm = nn.LayerNorm(config["hidden_size"], config["layer_norm_eps"])

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        x = self.embeddings(input_ids)
        for block in self.encoder.layers:
            x = block(x)
        return {"last_hidden_state": self.final_layer_norm(x)}


class T5Attention(nn.Module):
    def __init__(self, config: dict, first: bool):
        super().__init__()
        width, self.heads = config["d_model"], config["num_heads"]
        inner = self.heads * config["d_kv"]
        self.q, self.k, self.v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, width, bias=False)
        if first:
            self.relative_attention_bias = nn.Embedding(config["relative_attention_num_buckets"], self.heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (heads_of(to(x), self.heads) for to in (self.q, self.k, self.v))
        return self.o(attend(q, k, v, attn_mask=bias, scale=1.0))


class T5AttentionLayer(nn.Module):
    def __init__(self, config: dict, first: bool):
        super().__init__()
        self.SelfAttention = T5Attention(config, first)
        self.layer_norm = RMSNorm(config["d_model"], config["layer_norm_epsilon"])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return x + self.SelfAttention(self.layer_norm(x), bias)


class T5Gated(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.wi_0, self.wi_1 = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.wo = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class T5FeedForwardLayer(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.DenseReluDense = T5Gated(config["d_model"], config["d_ff"])
        self.layer_norm = RMSNorm(config["d_model"], config["layer_norm_epsilon"])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.DenseReluDense(self.layer_norm(x))


class T5Block(nn.Module):
    def __init__(self, config: dict, first: bool):
        super().__init__()
        self.layer = nn.ModuleList([T5AttentionLayer(config, first), T5FeedForwardLayer(config)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        return self.layer[1](self.layer[0](x, bias))


def buckets_of(tokens: int, buckets: int, distance: int) -> Tensor:
    """[T, T]: the bucket of every key for every query."""
    half, exact = buckets // 2, buckets // 4
    relative = torch.arange(tokens)[None, :] - torch.arange(tokens)[:, None]
    far = relative.abs()
    share = torch.log(far.clamp(min=1).float() / exact) / math.log(distance / exact)
    large = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
    return (relative > 0) * half + torch.where(far < exact, far, large)


class T5Stack(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.block = nn.ModuleList(T5Block(config, i == 0) for i in range(config["num_layers"]))
        self.final_layer_norm = RMSNorm(config["d_model"], config["layer_norm_epsilon"])


class T5Encoder(nn.Module):
    """With gates of tanh GELU; all tokens are looked at."""

    def __init__(self, config: dict):
        super().__init__()
        self.buckets, self.distance = config["relative_attention_num_buckets"], config["relative_attention_max_distance"]
        self.shared = nn.Embedding(config["vocab_size"], config["d_model"])
        self.encoder = T5Stack(config)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        x = self.shared(input_ids)
        table = self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
        # The same for every sample; contiguous, as the attention wants it.
        bias = table(buckets_of(input_ids.shape[1], self.buckets, self.distance)).permute(2, 0, 1)[None].contiguous()
        for block in self.encoder.block:
            x = block(x, bias)
        return {"last_hidden_state": self.encoder.final_layer_norm(x)}
