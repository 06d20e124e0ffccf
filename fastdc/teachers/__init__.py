"""Teachers: frozen trained networks that label or score images, or whose statistics guide a method.

- `names`: from a name ("observer", "resnet18@FILE", "timm:...") to a plan. `plan`: the plan, and checks that need no
  network. `class_orders`: named orders of a network's outputs.
- `load`: from a plan to a checked network: train an observer, or `build` the network from a file or a package
  (`pretrained`). `agreement`: whether its guesses fit the classes.
- `network`: the loaded teacher. `resources`: the teachers of a method with device, training set and scratch folder.
- `view_losses`: losses of teachers on views of training images.
"""
