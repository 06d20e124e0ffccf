"""Write Fashion-MNIST as betons; `fastdc.recipes.fashion_mnist` is the recipe, `--help` shows its options."""

from fastdc.recipes.fashion_mnist import main

if __name__ == "__main__":
    main()
