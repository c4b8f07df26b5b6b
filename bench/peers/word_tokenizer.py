"""python word_tokenizer.py FOLDER: a tokenizer of 1,000 words, one token a word, so that no tool needs a model hub.

Made in a tool's own environment by the libraries that will read it. Whole words come back as they were put in; with
pieces of words a tool that checks its prompts' length builds some of them again and again.
"""

import sys

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

words = ["<unk>", "<s>", "</s>", *(f"w{n}" for n in range(1_000))]
tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
fast.model_max_length = 8_192
fast.save_pretrained(sys.argv[1])
